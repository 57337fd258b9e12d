"""Failed jobs as the API shows them, and what is said about many of them at once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from darkroom.deployments.gateway.schemas.base import Document, Usd, either
from darkroom.ledger import MOST_LETTERS, MOST_REASON, DeadLetter, DeadLetterFilter, Done, Price

MOST_USD = 100_000

Word = Annotated[str | None, Field(min_length=1, max_length=200)]
JobId = Annotated[str, Field(min_length=1, max_length=100)]
Budget = Annotated[
    Decimal,
    Field(ge=0, le=MOST_USD, decimal_places=6),
    # Floats of JSON are read by their digits: 0.1 is a tenth.
    BeforeValidator(lambda given: str(given) if isinstance(given, float) else given),
    # A Decimal's own schema takes text, too.
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": MOST_USD}),
]


class ReusableDocument(Document):
    """A paid call whose result serves again."""

    step: str = Field(examples=["generate"])
    endpoint: str = Field(examples=["fal-ai/flux/dev"])
    ref: str = Field(examples=["req_019aa1f0c5d3"])
    cost_usd: Usd | None = Field(examples=[0.025])


class AgainDocument(Document):
    """A paid call that a replay would queue."""

    step: str = Field(examples=["upscale"])
    endpoint: str = Field(examples=["fal-ai/clarity-upscaler"])
    estimate_usd: Usd = Field(examples=[0.03])


class DeadLetterDocument(Document):
    """A failed job: why, what it has cost, and what another try would."""

    job_id: str = Field(examples=["job_019aa1f0c5d2"])
    parent_id: str | None = Field(description="The batch that it is a row of.")
    kind: str = Field(examples=["generate-image"])
    user_id: str
    failed_at: datetime
    error_class: str | None = Field(alias="class", description="retry, park, permanent, needs_human.")
    code: str | None = Field(examples=["content_policy_violation"])
    step: str | None
    ref: str | None = Field(description="Of the call that failed.")
    endpoint: str | None = Field(description="Of the call that failed.")
    message: str = Field(description="The provider's words, where they are its.")
    paid_usd: Usd = Field(description="What was paid for it, duplicates at the provider included.")
    reusable: list[ReusableDocument] = Field(description="What a replay does not pay again.")
    replay: list[AgainDocument] = Field(description="What a replay pays, as far as the job had come.")
    replay_usd: Usd = Field(description="The sum of it. Steps that the job reaches later cost more.")
    rows: int = Field(description="Of a failed batch: rows that go back with it; their costs are in its sums.")
    replayable: bool
    why_not: str | None = Field(description="Why it cannot be replayed just now.")
    discarded_at: datetime | None
    discard_reason: str | None


class DeadLetterPage(Document):
    items: list[DeadLetterDocument]
    next: str | None = Field(description="The `cursor` of the next page; null on the last.")


class RefusedDocument(Document):
    job_id: str
    why: str = Field(examples=["The provider is not done with it: its result may yet come."])


class PriceDocument(Document):
    """What a replay would cost. Nothing was requeued."""

    matching: int = Field(description="Failed jobs that match.")
    jobs: list[str] = Field(description=f"Those that would go back in one call, at most {MOST_LETTERS:,}.")
    replayable: int = Field(description="How many of them can be replayed just now.")
    replay_usd: Usd = Field(description="For what failed of them. Steps that they reach later cost more.")
    refused: list[RefusedDocument]


class ReplayedDocument(Document):
    """What was requeued, under one budget."""

    put_back: list[str]
    refused: list[RefusedDocument] = Field(description="What was not, and why. It is as it was.")
    remaining: int = Field(description="How many more match. Send it again for those.")
    left: int = Field(description="`remaining` by its name in 0.1.", json_schema_extra={"deprecated": True})


class DiscardedDocument(Document):
    discarded: list[str]
    refused: list[RefusedDocument]
    remaining: int = Field(description="How many more match. Send it again for those.")
    left: int = Field(description="`remaining` by its name in 0.1.", json_schema_extra={"deprecated": True})


class FilterBody(BaseModel):
    """Which failed jobs: all that is given must hold. Empty: all of yours that are not discarded."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    kind: Word = Field(None, examples=["generate-image"])
    error_class: Word = Field(None, alias="class", examples=["permanent"])
    code: Word = Field(None, examples=["content_policy_violation"])
    endpoint: Word = Field(None, description="Of the call that failed.", examples=["fal-ai/flux/dev"])
    failed_since: AwareDatetime | None = Field(None, examples=["2030-01-01T12:00:00Z"])
    failed_before: AwareDatetime | None = None
    discarded: bool = Field(False, description="Those that were discarded, not the others.")


class Selected(BaseModel):
    """Failed jobs by their ids, or by what they have in common."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=either("jobs", "filter"))

    jobs: list[JobId] | None = Field(None, min_length=1, max_length=MOST_LETTERS, description="Also discarded ones.")
    filter: FilterBody | None = None


class ReplayOrder(Selected):
    budget_usd: Budget | None = Field(None, description="Without it you are told what it would cost.")


class DiscardOrder(Selected):
    reason: str = Field(min_length=1, max_length=MOST_REASON, examples=["A test order."])


def which(given: FilterBody, user_id: str | None) -> DeadLetterFilter:
    return DeadLetterFilter(
        user_id=user_id,
        kind=given.kind,
        error_class=given.error_class,
        code=given.code,
        endpoint=given.endpoint,
        since=given.failed_since,
        until=given.failed_before,
        discarded=given.discarded,
    )


def letter_document(letter: DeadLetter) -> DeadLetterDocument:
    return DeadLetterDocument.model_validate(letter)


def price_document(price: Price) -> PriceDocument:
    return PriceDocument(
        matching=price.matching,
        jobs=list(price.job_ids),
        replayable=price.replayable,
        replay_usd=price.replay_usd,
        refused=_refused(price.refused),
    )


def replayed_document(done: Done) -> ReplayedDocument:
    return ReplayedDocument(
        put_back=list(done.job_ids), refused=_refused(done.refused), remaining=done.remaining, left=done.remaining
    )


def discarded_document(done: Done) -> DiscardedDocument:
    return DiscardedDocument(
        discarded=list(done.job_ids), refused=_refused(done.refused), remaining=done.remaining, left=done.remaining
    )


def _refused(refused: Mapping[str, str]) -> list[RefusedDocument]:
    return [RefusedDocument(job_id=job_id, why=why) for job_id, why in refused.items()]
