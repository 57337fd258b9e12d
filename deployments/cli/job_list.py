"""`darkroom jobs`: what was ordered, newest first, with what it cost and how far it is.

With `DARKROOM_API_KEY` it lists that user's; without it everybody's, with the operator's key of the home.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from typing import Annotated, Any

import typer

from darkroom.deployments.cli.common import open_api
from darkroom.deployments.cli.dead_letters import TIME, moment
from darkroom.deployments.cli.output import JsonOption, print_rows, when

COLUMNS = ("job", "kind", "status", "ordered", "estimate", "cost", "order")
LONGEST_ORDER = 60  # characters, for people


def jobs(
    status: Annotated[str | None, typer.Option(help="pending, running, completed, failed or cancelled.")] = None,
    kind: Annotated[str | None, typer.Option(help="Of this kind, e.g. generate-image.")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help=f"Ordered then or later. {TIME}")] = None,
    user: Annotated[str | None, typer.Option(help="Of this user (a name or an id); for operators.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Most jobs.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first: what was ordered, its status, estimate and cost."""
    from darkroom.errors import BadInput
    from darkroom.ledger.statuses import JobStatus

    if status is not None and status not in list(JobStatus):
        raise BadInput(f"'{status}' is none of {', '.join(JobStatus)}.", field="--status")
    first = moment(since, "--since")
    asked = {"status": status, "kind": kind, "since": first and first.isoformat(), "user": user}
    with open_api() as api:
        # Pages come as lines are taken, so no more of them than it needs, and within this.
        found = api.all(f"{api.whose(user)}/jobs", **asked)
        rows = ((cells(job), job) for job in islice(found, limit))
        print_rows(COLUMNS, rows, as_json=as_json, empty="There are no such jobs.")


def cells(job: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a job as a line of the table."""
    estimate = "" if job["estimate_usd"] is None else f"${job['estimate_usd']:.3f}"
    ordered = when(job["created_at"])
    return (job["id"], job["kind"], job["status"], ordered, estimate, f"${job['cost_usd']:.3f}", order(job["order"]))


def order(ordered: Mapping[str, Any]) -> str:
    """Return an order on one short line: its prompt where it has one."""
    text = str(ordered.get("prompt") or (json.dumps(ordered, ensure_ascii=False) if ordered else ""))
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_ORDER else f"{text[: LONGEST_ORDER - 1]}…"
