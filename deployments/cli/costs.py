"""`darkroom costs`: what everybody spent, by the statement that answers `GET /v1/usage`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from darkroom.clock import utc_now
from darkroom.deployments.cli.common import open_ledger
from darkroom.deployments.cli.output import JsonOption, print_rows

if TYPE_CHECKING:
    from darkroom.ledger import Sums

COLUMNS = (
    "",
    "calls",
    "estimate",
    "cost",
    "price",
    "billed",
    "no bill yet",
    "saved",
    "by drafts",
    "paid twice",
    "spent",
)


class By(StrEnum):
    """What a line is of."""

    MODEL = "model"
    USER = "user"
    TAG = "tag"
    DAY = "day"


def costs(
    since: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="e.g. 2026-11-01. Default: this month (UTC)."),
    ] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Before it. Default: now.")] = None,
    by: Annotated[By, typer.Option(help="One line for each.")] = By.MODEL,
    user: Annotated[
        str | None, typer.Option(metavar="ID", help="Only this user's, and of a service its end users'.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what was spent, in USD: estimated, reckoned, billed. The last line is the total."""
    end = utc_now() if until is None else _time(until, "--to")
    first = end.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    begin = first if since is None else _time(since, "--from")
    with open_ledger() as ledger:
        usage = ledger.spending.between(begin, end, group_by=by, user_id=user)
    rows = [(_cells(each, each.name or each.key or "(none)"), asdict(each)) for each in usage.items]
    if rows:
        rows.append((_cells(usage.total, "total"), {**asdict(usage.total), "name": "total"}))
    empty = f"Nothing was paid from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC."
    print_rows(COLUMNS, rows, as_json=as_json, empty=empty)


def _cells(sums: Sums, name: str) -> tuple[str, ...]:
    money = (sums.estimate_usd, sums.cost_usd, sums.price_usd, sums.billed_usd)
    more = (sums.saved_usd, sums.drafts_saved_usd, sums.duplicates_usd, sums.spent_usd)
    return (name, str(sums.calls), *map(_usd, money), str(sums.unbilled_calls), *map(_usd, more))


def _usd(amount: Decimal) -> str:
    return f"{amount.normalize():f}" if amount else "0"


def _time(text: str, option: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("a day or a time, e.g. 2026-11-01", param_hint=option) from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
