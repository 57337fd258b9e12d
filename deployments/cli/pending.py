"""Commands for runs that events ask for, before they begin: what flow control holds, and why. For operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from darkroom.deployments.cli.common import open_ledger
from darkroom.deployments.cli.output import JsonOption, print_rows

if TYPE_CHECKING:
    from darkroom.ledger import Ledger, PendingRun

MOST_REASON = 500
COLUMNS = ("run", "deployment", "status", "events", "until", "job", "reason")
StartIds = Annotated[list[str], typer.Argument(metavar="RUN...", help="Ids, as `darkroom pending list` gives them.")]

pending = typer.Typer(help="Pending runs: those that events ask for, under flow control.", no_args_is_help=True)


@pending.command("list")
def list_pending(
    deployment: Annotated[str | None, typer.Option(help="Only of this one, e.g. sync-profile/debounced.")] = None,
    status: Annotated[str | None, typer.Option(help="Only gathering, waiting, begun or dropped ones.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most lines.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List pending runs of all users, newest first: id, deployment, status, events, until when, job, reason."""
    from darkroom.errors import BadInput
    from darkroom.ledger import PendingStatus

    if status is not None and status not in list(PendingStatus):
        raise BadInput(f"'{status}' is none of {', '.join(PendingStatus)}.", field="--status")
    wanted = None if status is None else PendingStatus(status)
    with open_ledger() as ledger:
        found = ledger.pending_runs.page(deployment=deployment, status=wanted, limit=limit)
    _print(found, as_json=as_json, empty="There are no such pending runs.")


@pending.command("release")
def release(starts: StartIds, as_json: JsonOption = False) -> None:
    """Let pending runs that gather events go on now, without waiting for more."""
    from darkroom.orchestrator import Orchestrator
    from darkroom.orchestrator.dispatch import Dispatcher

    with open_ledger() as ledger, Orchestrator() as orchestrator:
        _known(ledger, starts)
        Dispatcher(ledger, orchestrator).carry_out(ledger.pending_runs.release_now(starts))
        _print(_known(ledger, starts), as_json=as_json, empty="Nothing was released.")


@pending.command("drop")
def drop(
    reason: Annotated[str, typer.Option(help="Why nothing is to begin; it stands in each event's document.")],
    starts: Annotated[list[str] | None, typer.Argument(metavar="[RUN...]", help="Ids of pending runs.")] = None,
    deployment: Annotated[str | None, typer.Option(help="In place of ids: all that is held of this one.")] = None,
    user: Annotated[str | None, typer.Option(help="With --deployment: of this user alone.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Drop pending runs: nothing begins. Prints those that are dropped."""
    from darkroom.errors import BadInput

    if not reason.strip() or len(reason) > MOST_REASON:
        raise BadInput(f"A reason has 1 to {MOST_REASON} characters.", field="--reason")
    if bool(starts) == bool(deployment) or (user is not None and deployment is None):
        raise BadInput("Name either pending runs, or their --deployment (and --user).", field="RUN")
    with open_ledger() as ledger:
        if deployment is not None:
            owner = None if user is None else ledger.users.find(user).id
            dropped = ledger.pending_runs.drop(deployment, ids=None, user_id=owner, reason=reason)
        else:
            found = _known(ledger, starts or [])
            dropped = [
                id
                for name in sorted({each.deployment for each in found})
                for id in ledger.pending_runs.drop(name, ids=starts, user_id=None, reason=reason)
            ]
    rows = (((id, "dropped"), {"id": id, "status": "dropped"}) for id in dropped)
    print_rows(("run", "now"), rows, as_json=as_json, empty="Nothing was dropped.")


def _known(ledger: Ledger, ids: list[str]) -> list[PendingRun]:
    from darkroom.errors import BadInput

    found = ledger.pending_runs.get(ids)
    if missing := [id for id in ids if id not in found]:
        raise BadInput(f"There is no pending run {missing[0]}.", field="RUN")
    return [found[id] for id in ids]


def _print(found: Sequence[PendingRun], *, as_json: bool, empty: str) -> None:
    from darkroom.deployments.gateway.routes.pending_runs import pending_run_document

    rows = ((_cells(each), pending_run_document(each).model_dump(mode="json")) for each in found)
    print_rows(COLUMNS, rows, as_json=as_json, empty=empty)


def _cells(start: PendingRun) -> tuple[str, ...]:
    until = start.due_at.isoformat(timespec="seconds") if start.due_at else ""
    known = (start.id, start.deployment, start.status, str(start.events), until, start.job_id or "")
    return (*known, start.reason or "")
