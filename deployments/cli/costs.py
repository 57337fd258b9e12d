"""`darkroom costs`: what was spent, as `GET /v1/usage` has it; with the operator's key of the home by everybody."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

import typer

from darkroom.deployments.cli.common import open_api
from darkroom.deployments.cli.output import JsonOption, print_rows

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
    "perhaps paid",
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
        typer.Option(
            "--from", metavar="TIME", help="e.g. 2026-11-01. Default: this month, or the one that `--to` ends (UTC)."
        ),
    ] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Before it. Default: now.")] = None,
    by: Annotated[By, typer.Option(help="One line for each.")] = By.MODEL,
    user: Annotated[
        str | None, typer.Option(help="Only this user's (a name or an id), and of a service its end users'.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what was spent, in USD: estimated, reckoned, billed. The last line is the total."""
    asked = {"from": _time(since, "--from"), "to": _time(until, "--to"), "group_by": by.value, "user": user}
    with open_api() as api:
        usage = api.get(f"{api.whose(user)}/usage", **asked)
    rows = [(_cells(each, each["name"] or each["key"] or "(none)"), each) for each in usage["items"]]
    if rows:
        rows.append((_cells(usage["total"], "total"), {**usage["total"], "name": "total"}))
    begin, end = (datetime.fromisoformat(usage[side]).astimezone(UTC) for side in ("from", "to"))
    empty = f"Nothing was paid from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC."
    print_rows(COLUMNS, rows, as_json=as_json, empty=empty)


def _cells(sums: Mapping[str, Any], name: str) -> tuple[str, ...]:
    money = (sums["estimate_usd"], sums["cost_usd"], sums["price_usd"], sums["billed_usd"])
    names = ("saved_usd", "drafts_saved_usd", "duplicates_usd", "spent_usd", "perhaps_paid_usd")
    more = (sums[name] for name in names)
    return (name, str(sums["calls"]), *map(_usd, money), str(sums["unbilled_calls"]), *map(_usd, more))


def _usd(amount: float) -> str:
    # By its text a float has the digits that were sent, and `f` writes no exponent.
    return f"{Decimal(str(amount)).normalize():f}" if amount else "0"


def _time(text: str | None, option: str) -> str | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
        # Without a zone it is not in this machine's: days of budgets are UTC's, and so is all that is told here.
        return (at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)).isoformat()
    except (ValueError, OverflowError):  # the latter of a time that in UTC is before the first year, or after the last
        raise typer.BadParameter("a day or a time, e.g. 2026-11-01", param_hint=option) from None
