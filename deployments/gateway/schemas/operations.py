"""What waits and what has failed, of everybody, as the API shows it to operators."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import Field

from darkroom.deployments.gateway.schemas.base import Document, Usd
from darkroom.deployments.gateway.schemas.dead_letters import MOST_USD, Budget, FilterBody, Selected, Word
from darkroom.ledger import MOST_REASON, AccountNow
from darkroom.ledger.queue import LaneNow


class InLineDocument(Document):
    user_id: str
    user: str = Field(examples=["ann"])
    plan: str
    weight: Usd = Field(description="Their share when slots are short.")
    waiting: int = Field(description="Calls of theirs that wait in this lane.")
    since: datetime = Field(description="Of the oldest.")
    held: int = Field(description="Slots that they hold now, in all lanes.")
    most: int = Field(description="… and may hold.")


class LaneDocument(Document):
    lane: str = Field(description="`continue`, `interactive`, `batch`, `training`: in this order.")
    waiting: int
    users: int
    since: datetime = Field(description="Of the oldest call.")
    first: list[InLineDocument] = Field(description="Whose turn comes next, then who is behind: the first twenty.")


class HeldDocument(Document):
    key: str = Field(description="A model's endpoint, or a user's id.")
    name: str
    slots: int = Field(description="In use now.")


class AccountNowDocument(Document):
    name: str = Field(examples=["fal"])
    slots: int = Field(description="As it is set.")
    slots_now: int = Field(description="What of them is given out now, by throttle and breaker.")
    in_use: int
    endpoint_caps: dict[str, int]
    halvings: int = Field(description="How often the slots are halved, as the provider said 429.")
    slowed_at: datetime | None = Field(description="When it said so last.")
    down_since: datetime | None = Field(description="Since when the provider is out. Null: it is up.")
    down_reason: str | None = Field(description="What a person has to do about it.")
    probe_at: datetime | None = Field(description="When it is tried again.")
    failed_probes: int
    endpoints: list[HeldDocument]
    users: list[HeldDocument]
    lanes: list[LaneDocument] = Field(description="Those in which somebody waits.")


class QueueDocument(Document):
    at: datetime
    accounts: list[AccountNowDocument]


class CauseDocument(Document):
    """Failed jobs that failed of the same."""

    code: str = Field(examples=["content_policy_violation"])
    error_class: str = Field(alias="class", description="retry, park, permanent, needs_human.")
    kind: str = Field(examples=["generate-image"])
    jobs: int
    users: int = Field(description="Whose they are: how many.")
    first_at: datetime
    last_at: datetime
    message: str | None = Field(description="Of the last one.")


class CauseList(Document):
    items: list[CauseDocument]


class WhoseFilter(FilterBody):
    user: Word = Field(None, description="Only of this user: an id, or a name.", examples=["ann"])


class OfAnybody(Selected):
    filter: WhoseFilter | None = Field(None, description="Which failed jobs, whosever they are.")


class CauseReplay(OfAnybody):
    budget_usd: Budget | None = Field(
        None, ge=0, le=MOST_USD, decimal_places=6, description="Without it you are told what it would cost."
    )


class CauseDiscard(OfAnybody):
    reason: str = Field(min_length=1, max_length=MOST_REASON, examples=["A test order."])


def queue_document(accounts: Sequence[AccountNow], *, at: datetime) -> QueueDocument:
    return QueueDocument(at=at, accounts=[_account(each) for each in accounts])


def _account(now: AccountNow) -> AccountNowDocument:
    account = now.account
    return AccountNowDocument(
        name=account.id,
        slots=account.slots,
        slots_now=now.slots_now,
        in_use=now.in_use,
        endpoint_caps=account.endpoint_caps or {},
        halvings=now.halvings,
        slowed_at=account.slowed_at,
        down_since=account.down_since,
        down_reason=account.down_reason,
        probe_at=account.probe_at,
        failed_probes=account.failed_probes,
        endpoints=[HeldDocument.model_validate(each) for each in now.endpoints],
        users=[HeldDocument.model_validate(each) for each in now.users],
        lanes=[_lane(each) for each in now.lanes],
    )


def _lane(lane: LaneNow) -> LaneDocument:
    return LaneDocument(
        lane=lane.lane.name.lower(),
        waiting=lane.waiting,
        users=lane.users,
        since=lane.since,
        first=[InLineDocument.model_validate(each) for each in lane.first],
    )
