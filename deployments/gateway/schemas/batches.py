"""The JSON of batches: how far each pass has come."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import Field

from darkroom.batches.winners import as_ranges
from darkroom.deployments.gateway.schemas.base import Document, Usd
from darkroom.ledger import Batch, BatchPass, Counts, JobStatus


class PassDocument(Document):
    """One pass over the rows."""

    total: int
    completed: int
    failed: int
    cancelled: int
    in_flight: int = Field(description="At the provider, or about to be.")
    per_minute: float = Field(description="Rows that ended within the last minute.")
    seconds_left: float | None = Field(description="At the pace of the last minute; null while nothing ends.")
    spent_usd: Usd


class BatchDocument(Document):
    rows: int
    draft: PassDocument | None
    final: PassDocument | None
    spent_usd: Usd
    forecast_usd: dict[str, float] = Field(description="As it was ordered: drafts, finals of all rows, and the most.")
    paused_at: datetime | None
    asked_at: datetime | None = Field(description="Since when it waits for a choice, or waited.")
    answer_by: datetime | None
    winners: list[int] | None = Field(description="The chosen rows, from 0.")
    numbers: str | None = Field(
        description="The same as they stand on the contact sheet, from 1.", examples=["3, 7, 12-20"]
    )


class ManifestDocument(Document):
    """The rows of a batch as they were given."""

    rows: list[dict[str, Any]] = Field(
        description="In their order, and without the batch's defaults; passwords and signatures in them are hidden.",
        examples=[[{"id": "sku-1", "prompt": "a red mug on oak"}]],
    )


class SelectionQuote(Document):
    """What a choice comes to, in USD."""

    winners: int = Field(description="Rows that are chosen.")
    finals: int = Field(description="Of these the ones that are rendered again: of the others the draft is the final.")
    estimate_usd: Usd = Field(description="The most that the finals should cost.")
    all_at_once_usd: Usd = Field(description="What every row at its final quality would cost, without drafts.")
    saved_usd: float = Field(description="By drafts and this choice against that; below zero where drafts hardly save.")


def selection_quote(batch: Batch, *, winners: int, finals: int, usd: Decimal) -> SelectionQuote:
    forecast = {name: Decimal(amount) for name, amount in (batch.forecast or {}).items()}
    at_once, drafts = forecast.get("final_all", Decimal(0)), forecast.get("draft", Decimal(0))
    return SelectionQuote(
        winners=winners,
        finals=finals,
        estimate_usd=usd,
        all_at_once_usd=at_once,
        saved_usd=float(at_once - drafts - usd),
    )


def spent_usd(passes: Sequence[Counts]) -> Decimal:
    return sum((each.cost_usd for each in passes), Decimal(0))


def batch_document(batch: Batch, passes: Sequence[Counts]) -> BatchDocument:
    counts = {each.stage: each for each in passes}
    return BatchDocument(
        rows=batch.rows,
        draft=_pass(counts.get(BatchPass.DRAFT)),
        final=_pass(counts.get(BatchPass.FINAL)),
        spent_usd=spent_usd(passes),
        forecast_usd={name: float(usd) for name, usd in (batch.forecast or {}).items()},
        paused_at=batch.paused_at,
        asked_at=batch.asked_at,
        answer_by=batch.answer_by,
        winners=batch.winners,
        numbers=None if batch.winners is None else _numbers(batch.winners),
    )


def _numbers(winners: Sequence[int]) -> str:
    return as_ranges(winners, most=len(winners)) or "none"


def _pass(counts: Counts | None) -> PassDocument | None:
    if counts is None:
        return None
    return PassDocument(
        total=counts.total,
        **{status.value: counts.statuses.get(status, 0) for status in JobStatus if status.terminal},
        in_flight=counts.in_flight,
        per_minute=counts.last_minute,
        seconds_left=counts.seconds_left,
        spent_usd=counts.cost_usd,
    )
