"""`GET /v1/usage`: what was spent, by model, user, tag or day, as JSON or as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import Query, Response
from pydantic import Field

from darkroom.clock import utc_now
from darkroom.deployments.gateway.auth import UserId
from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.routing import whole_router
from darkroom.deployments.gateway.schemas.base import Document, Usd
from darkroom.deployments.gateway.services import Services, ServicesOf
from darkroom.errors import BadInput
from darkroom.ledger import Sums, Usage

router = whole_router(tags=["Money"])

LONGEST = timedelta(days=366)
CSV = "text/csv"
FIGURES = ("calls", "estimate_usd", "cost_usd", "price_usd", "billed_usd", "unbilled_calls")
COLUMNS = ("key", "name", *FIGURES, "saved_usd", "duplicates_usd", "spent_usd", "drafts_saved_usd", "perhaps_paid_usd")
# A cell that begins so is a formula to a spreadsheet, and tags are users' own words.
FORMULA = ("=", "+", "-", "@", "\t", "\r")

# A day or a time with its zone. In full, so that the documentation tells what is taken; that it exists is seen later.
TIME = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?([Zz]|[+ -][0-9]{2}:[0-9]{2})?)?$"
)
From = Annotated[
    str | None,
    Query(
        alias="from",
        pattern=TIME,
        description="Of what ended at or after that day or time; UTC without a zone. Default: the first of the month "
        "that `to` is in or at whose end it is; without `to`, of this month.",
        examples=["2026-11-01"],
    ),
]
To = Annotated[
    str | None, Query(alias="to", pattern=TIME, description="… and before it. Default: now.", examples=["2026-12-01"])
]
GroupBy = Annotated[Literal["model", "user", "tag", "day"], Query(description="One line for each.")]
Form = Annotated[Literal["json", "csv"], Query(alias="format", description="How it is answered.")]
IN_BOTH_FORMS: dict[str, Any] = {
    "content": {CSV: {"schema": {"type": "string"}}},
    "description": "By `format`.",
}


class SpendingDocument(Document):
    """In USD. Three figures for the same calls, and the best that is known of each call in `spent_usd`."""

    key: str | None = Field(
        description="The model, the user's id, the tag, or the day (UTC); null for jobs without a tag.",
        examples=["fal-ai/flux/dev"],
    )
    name: str | None = Field(description="Of a user, by `user`.", examples=[None])
    calls: int = Field(description="Paid calls that have ended.", examples=[40])
    estimate_usd: Usd = Field(description="What they were taken to cost before.", examples=[1.0])
    cost_usd: Usd = Field(description="What they came to by their units and the price list.", examples=[1.0])
    price_usd: Usd = Field(
        description="The costs with the mark-up of the plan by which each was ordered.", examples=[1.3]
    )
    billed_usd: Usd = Field(description="What the provider has billed, as far as the bills are here.", examples=[0.9])
    unbilled_calls: int = Field(description="Those whose bill is not here.", examples=[0])
    saved_usd: Usd = Field(description="What answers had cost that served again.", examples=[0.05])
    drafts_saved_usd: Usd = Field(
        description="What batches that ended then have saved by rendering winners alone: an estimate, of all rows at "
        "their finals' price less what drafts and finals have cost. Below zero where drafts hardly save.",
        examples=[1.2],
    )
    duplicates_usd: Usd = Field(description="Results that came twice, and cost twice.", examples=[0.0])
    spent_usd: Usd = Field(description="By the bill, else the cost; with what came twice.", examples=[0.9])
    perhaps_paid_usd: Usd = Field(
        description="Estimates of calls that may have been paid, and of which nobody knows yet: most had no answer. "
        "They are in no other sum, and count in budgets.",
        examples=[0.0],
    )


class UsageDocument(Document):
    begin: datetime = Field(alias="from")
    end: datetime = Field(alias="to")
    group_by: str = Field(examples=["model"])
    total: SpendingDocument = Field(description="Each call once: a job with several tags is in the lines of all.")
    items: list[SpendingDocument]


@router.get(
    "/v1/usage",
    summary="See what was spent",
    responses={200: IN_BOTH_FORMS, **problem_responses(401, 403, 422)},
    response_model=UsageDocument,
)
def get_usage(
    user_id: UserId,
    services: ServicesOf,
    begin: From = None,
    end: To = None,
    group_by: GroupBy = "model",
    form: Form = "json",
) -> Any:
    """Tell your own usage; with the key of a service those of its end users too, or of the one that it acts for."""
    return answer(services, begin, end, group_by=group_by, form=form, user_id=user_id)


def answer(
    services: Services, begin: str | None, end: str | None, *, group_by: str, form: str, user_id: str | None
) -> Any:
    """Return what a user has spent, or everybody, in the form that was asked for."""
    since, until = span(_read(begin, "from"), _read(end, "to"))
    usage = services.ledger.spending.between(since, until, group_by=group_by, user_id=user_id)
    if form == "csv":
        return Response(as_csv(usage.items), media_type=CSV)
    return _document(usage, group_by)


def span(begin: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    """Return the bounds of the time, in UTC: this month's, or by an end alone the month that it is the end of.

    Raise BadInput for one that is no time, or too long.
    """
    until = (end or utc_now()).astimezone(UTC)
    first = until.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    if until == end == first and first.year > 1:  # whoever says `to=2026-12-01` means November; no year is before 1
        first = (first - timedelta(days=1)).replace(day=1)
    since = first if begin is None else begin.astimezone(UTC)
    if since > until:
        raise BadInput("`from` is after `to`. Give the earlier time first.", field="from")
    if until - since > LONGEST:
        raise BadInput(f"That is more than {LONGEST.days} days. Ask for a shorter time.", field="from")
    return since, until


def _read(text: str | None, field: str) -> datetime | None:
    if text is None:
        return None
    try:
        # An unescaped + of a zone comes as a blank.
        read = datetime.fromisoformat(f"{text[:11]}{text[11:].replace(' ', '+')}".upper())
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:  # overflow: the first or the last year, in a zone
        raise BadInput("There is no such day or time.", field=field) from error


def as_csv(items: Sequence[Sums]) -> str:
    """Write the lines with a head, exact to the last digit that is known."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(COLUMNS)
    for each in items:
        table.writerow([_cell(getattr(each, column)) for column in COLUMNS])
    return text.getvalue()


def _cell(value: object) -> str:
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULA) else value
    # Without the exponent by which a Decimal writes what is small: `1E-7`.
    return "" if value is None else f"{value:f}" if not isinstance(value, int) else str(value)


def _document(usage: Usage, group_by: str) -> UsageDocument:
    return UsageDocument(
        begin=usage.begin,
        end=usage.end,
        group_by=group_by,
        total=SpendingDocument.model_validate(usage.total),
        items=[SpendingDocument.model_validate(each) for each in usage.items],
    )
