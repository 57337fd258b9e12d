"""Commands for runs that events ask for, before they begin: what flow control holds, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.common import open_ledger

if TYPE_CHECKING:
    from blocks.ledger import HeldStart

start = typer.Typer(help="Runs that events ask for, under flow control.", no_args_is_help=True)


@start.command("list")
def list_starts(
    deployment: Annotated[str | None, typer.Option(help="Only of this one, e.g. sync-profile/debounced.")] = None,
    status: Annotated[str | None, typer.Option(help="Only gathering, waiting, begun or dropped ones.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most lines.")] = 50,
) -> None:
    """List starts of all users, newest first: id, deployment, status, events, until when, job, reason."""
    from blocks.errors import BadInput
    from blocks.ledger import StartStatus

    if status is not None and status not in list(StartStatus):
        raise BadInput(f"'{status}' is none of {', '.join(StartStatus)}.", field="--status")
    wanted = None if status is None else StartStatus(status)
    with open_ledger() as ledger:
        for each in ledger.starts.page(deployment=deployment, status=wanted, limit=limit):
            typer.echo(_line(each))


def _line(start: HeldStart) -> str:
    until = start.due_at.isoformat(timespec="seconds") if start.due_at else "-"
    known = (start.id, start.deployment, start.status, str(start.events), until, start.job_id or "-")
    return "\t".join([*known, start.reason or "-"])
