"""Commands for runs that events ask for, before they begin: what flow control holds, and why. For operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from darkroom.deployments.cli.common import ADMIN, open_api
from darkroom.deployments.cli.output import JsonOption, print_rows

PENDING_RUNS = f"{ADMIN}/pending-runs"
MOST_REASON = 500  # characters, as the API takes them
COLUMNS = ("run", "deployment", "state", "events", "until", "job", "reason")
PendingRunIds = Annotated[
    list[str], typer.Argument(metavar="RUN...", help="Ids, as `darkroom pending list` gives them.")
]

pending = typer.Typer(help="Pending runs: those that events ask for, under flow control.", no_args_is_help=True)


@pending.command("list")
def list_pending(
    deployment: Annotated[str | None, typer.Option(help="Only of this one, e.g. sync-profile/debounced.")] = None,
    state: Annotated[
        str | None, typer.Option("--state", "--status", help="Only collecting, waiting, started or dropped ones.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most lines.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List pending runs of all users, newest first: id, deployment, state, events, until when, job, reason."""
    from darkroom.errors import BadInput
    from darkroom.ledger.statuses import PendingStatus

    words = [each.word for each in PendingStatus]
    # Scripts of 0.1 may name one in the words of it.
    known = dict(zip([*words, *PendingStatus], [*words, *words], strict=True))
    if state is not None and state not in known:
        raise BadInput(f"'{state}' is none of {', '.join(words)}.", field="--state")
    with open_api() as api:
        found = api.get(PENDING_RUNS, deployment=deployment, state=state and known[state], limit=limit)["items"]
    _print(found, as_json=as_json, empty="There are no such pending runs.")


@pending.command("release")
def release(runs: PendingRunIds, as_json: JsonOption = False) -> None:
    """Let pending runs that gather events go on now, without waiting for more."""
    with open_api() as api:
        found = api.post(f"{PENDING_RUNS}/release", {"ids": runs})["items"]
    _print(found, as_json=as_json, empty="Nothing was released.")


@pending.command("drop")
def drop(
    reason: Annotated[str, typer.Option(help="Why nothing is to begin; it stands in each event's document.")],
    runs: Annotated[list[str] | None, typer.Argument(metavar="[RUN...]", help="Ids of pending runs.")] = None,
    deployment: Annotated[str | None, typer.Option(help="In place of ids: all that is held of this one.")] = None,
    user: Annotated[str | None, typer.Option(help="With --deployment: of this user alone.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Drop pending runs: nothing begins. Prints those that are dropped."""
    from darkroom.errors import BadInput

    if not reason.strip() or len(reason) > MOST_REASON:
        raise BadInput(f"A reason has 1 to {MOST_REASON} characters.", field="--reason")
    if bool(runs) == bool(deployment) or (user is not None and deployment is None):
        raise BadInput("Name either pending runs, or their --deployment (and --user).", field="RUN")
    given = {"ids": runs or None, "deployment": deployment, "user": user}
    order = {name: each for name, each in given.items() if each is not None}
    with open_api() as api:
        dropped = api.post(f"{PENDING_RUNS}/drop", order | {"reason": reason})["dropped"]
    rows = (((id, "dropped"), {"id": id, "status": "dropped"}) for id in dropped)
    print_rows(("run", "now"), rows, as_json=as_json, empty="Nothing was dropped.")


def _print(found: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str) -> None:
    print_rows(COLUMNS, ((_cells(each), each) for each in found), as_json=as_json, empty=empty)


def _cells(start: Mapping[str, Any]) -> tuple[str, ...]:
    until = datetime.fromisoformat(start["until"]).isoformat(timespec="seconds") if start["until"] else ""
    known = (start["id"], start["deployment"], start["state"], str(start["events"]), until, start["job_id"] or "")
    return (*known, start["reason"] or "")
