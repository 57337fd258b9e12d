"""`darkroom jobs`: what was ordered, newest first, with what it cost and how far it is.

With `DARKROOM_API_KEY` it lists that user's; without it everybody's, from the ledger.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Annotated, Any

import typer

from darkroom.deployments.cli.common import open_ledger, settings
from darkroom.deployments.cli.dead_letters import TIME, moment
from darkroom.deployments.cli.output import JsonOption, print_rows, when

PAGE = 100
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
    from darkroom.ledger import JobStatus

    if status is not None and status not in list(JobStatus):
        raise BadInput(f"'{status}' is none of {', '.join(JobStatus)}.", field="--status")
    asked = {"status": status and JobStatus(status), "kind": kind, "since": moment(since, "--since")}
    found = _over_http(asked, user) if os.environ.get("DARKROOM_API_KEY") else _from_ledger(asked, user)
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


def _over_http(asked: Mapping[str, Any], user: str | None) -> Iterator[dict[str, Any]]:
    from darkroom.deployments.api_client import ApiClient
    from darkroom.errors import BadInput

    if user is not None:
        raise BadInput("Leave --user out: with DARKROOM_API_KEY you see your own jobs only.", field="--user")
    given = {name: each.isoformat() if isinstance(each, datetime) else each for name, each in asked.items() if each}
    with ApiClient(settings()) as client:
        page = client.jobs(given | {"limit": PAGE})
        yield from page["items"]
        while page["next"]:
            page = client.jobs(given | {"limit": PAGE, "cursor": page["next"]})
            yield from page["items"]


def _from_ledger(asked: Mapping[str, Any], user: str | None) -> Iterator[dict[str, Any]]:
    from darkroom.deployments.gateway.schemas.jobs import summaries

    chosen = settings()
    with open_ledger() as ledger:
        owner, before = None if user is None else ledger.users.find(user).id, None
        while page := ledger.jobs.page(owner, limit=PAGE, before=before, **asked):
            for summary in summaries(page, ledger, chosen):
                yield summary.model_dump(mode="json", by_alias=True)
            before = (page[-1].created_at, page[-1].id)
