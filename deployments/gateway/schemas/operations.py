"""What waits and what has failed, of everybody, as the API shows it to operators."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from pydantic import Field

from darkroom.deployments.gateway.schemas.base import Document, Usd
from darkroom.deployments.gateway.schemas.dead_letters import Budget, FilterBody, Selected, Word
from darkroom.ledger import MOST_REASON, AccountNow, Drift
from darkroom.ledger.queue import LaneNow, RunNow, Waited
from darkroom.settings import Settings


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


class WaitedDocument(Document):
    """How a user's calls in a lane have waited."""

    account: str = Field(examples=["fal"])
    lane: str = Field(examples=["batch"])
    user_id: str
    user: str = Field(examples=["ann"])
    granted: int = Field(description="Calls of theirs that got their slot after a wait.")
    waiting: int = Field(description="… and that wait still.")
    mean_seconds: float | None = Field(description="How long the granted ones waited; null where none was granted.")
    longest_seconds: float
    served: list[HeldDocument] = Field(
        description="Others who got slots of the account while any of them waited: the three with the most."
    )


class WaitedList(Document):
    since: datetime
    until: datetime
    items: list[WaitedDocument]


class RunDocument(Document):
    """A run of Prefect's."""

    id: str = Field(description="Our id of the run.")
    kind: str = Field(examples=["generate-image"])
    deployment: str = Field(examples=["on-demand"])
    user_id: str
    user: str = Field(examples=["ann"])
    flow_run_id: UUID | None = Field(description="Prefect's id; null until Prefect has made it.")
    url: str | None = Field(description="Its page in Prefect's UI.")
    open_jobs: int
    created_at: datetime
    suspended_at: datetime | None = Field(description="Since when it is out of its process, until something comes.")
    closed_at: datetime | None


class RunList(Document):
    items: list[RunDocument]


class DriftDocument(Document):
    """What calls of a model were billed at, beside what had been reckoned."""

    account: str = Field(examples=["fal"])
    endpoint: str = Field(examples=["fal-ai/flux/dev"])
    calls: int
    cost_usd: Usd
    billed_usd: Usd
    share: float | None = Field(
        description="By how much the bill is higher, as a share of the cost; null where that was nothing.",
        examples=[0.08],
    )


class DriftList(Document):
    since: datetime
    until: datetime
    items: list[DriftDocument]


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
    budget_usd: Budget | None = Field(None, description="Without it you are told what it would cost.")


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


def waited_document(waited: Waited) -> WaitedDocument:
    return WaitedDocument(
        account=waited.account_id,
        lane=waited.lane.name.lower(),
        user_id=waited.user_id,
        user=waited.user,
        granted=waited.granted,
        waiting=waited.waiting,
        mean_seconds=waited.mean_seconds,
        longest_seconds=waited.longest_seconds,
        served=[HeldDocument.model_validate(each) for each in waited.served],
    )


def run_document(run: RunNow, settings: Settings) -> RunDocument:
    return RunDocument(**vars(run), url=settings.run_url(run.flow_run_id))


def drift_document(account: str, drift: Drift) -> DriftDocument:
    return DriftDocument(**vars(drift), account=account, share=None if drift.share is None else float(drift.share))
