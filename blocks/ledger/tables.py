"""The tables of the ledger. `request` is the heart: one row for every paid call, at once the fair queue, the crash
journal, the webhook inbox and the audit trail.

Defined once, as SQLModel classes; instances also serve as the rows that the hot SQL statements return. Migrations
live beside in `migrations/`.
"""

from __future__ import annotations

import secrets
import time
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    Identity,
    Index,
    Numeric,
    SmallInteger,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import configure_mappers
from sqlmodel import Field, SQLModel

from blocks.clock import utc_now
from blocks.ledger.states import (
    EffectKind,
    EventStatus,
    JobStatus,
    Lane,
    LoraStatus,
    RequestStatus,
    Stage,
    StartStatus,
    WaitKind,
    WaitStatus,
)

Json = dict[str, Any]
MOST_QUEUED = 20_000
ON_DEMAND = "on-demand"  # the deployment in which jobs run, unless an event has started them in another


def new_id(prefix: str = "") -> str:
    """A random id whose beginning is the time, so that rows written together lie together in the index.

    Those of one process are in the order in which they were made, in steps of 16 ns: so are the events of one call, and
    what they start.
    """
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    return f"{prefix}{milliseconds:012x}{rest >> 4:04x}{secrets.token_hex(6)}"


def _when(*, now: bool = False) -> Any:
    if now:
        return Field(default_factory=utc_now, sa_type=DateTime(timezone=True))
    return Field(default=None, sa_type=DateTime(timezone=True))


def _usd(default: Decimal | None = None) -> Any:
    return Field(default=default, sa_type=Numeric(12, 6))


def _on_demand() -> Any:
    return Field(default=ON_DEMAND, sa_column_kwargs={"server_default": ON_DEMAND})


def _json() -> Any:
    return Field(default=None, sa_type=JSONB)


class Account(SQLModel, table=True):
    """An account at a provider, and what it allows at once."""

    id: str = Field(primary_key=True)  # "fal", "gemini", "elevenlabs", "mux", "web"
    slots: int
    user_slots: int | None = None  # most that one user holds at once; None: as many as the plan says
    endpoint_caps: Json = _json()  # endpoint → most at once
    provider_user_id: str | None = None  # learned from the first webhook whose request id we hold
    # The grant's own, written under this row's lock.
    grants: int = Field(default=0, sa_type=BigInteger)  # so far: every tenth is the lowest lane's
    passed: Json = Field(default_factory=dict, sa_type=JSONB)  # lane → its virtual time, see `Turn`
    # The breaker: with `down_since` set nothing is granted but one probe whenever `probe_at` has come.
    down_since: datetime | None = _when()
    probe_at: datetime | None = _when()
    failed_probes: int = 0
    # The throttle: how often the slots were halved after a 429, and when last.
    halvings: int = 0
    slowed_at: datetime | None = _when()


class Turn(SQLModel, table=True):
    """How far a user has come in a lane: a grant moves them on by 1 / weight, and who is furthest behind is next.

    Virtual time, as in start-time fair queueing. Who comes back after a pause starts where the lane is now: nobody
    saves up turns.
    """

    account_id: str = Field(primary_key=True, foreign_key="account.id")
    lane: Lane = Field(primary_key=True, sa_type=SmallInteger)
    user_id: str = Field(primary_key=True, foreign_key="user.id")
    passed: float = Field(sa_type=Double)


class Plan(SQLModel, table=True):
    __table_args__ = (CheckConstraint("weight > 0"),)  # the grant divides by it

    name: str = Field(primary_key=True)
    in_flight: int  # most slots one user of this plan holds at once
    weight: Decimal = Field(sa_type=Numeric(8, 3))
    daily_budget_usd: Decimal | None = _usd()
    most_queued: int = MOST_QUEUED  # rows of one user that wait; an order beyond is refused


class User(SQLModel, table=True):
    """Who asks for work. A user of a service (`parent_id`) is made on first use by that service's key."""

    __table_args__ = (UniqueConstraint("parent_id", "name", postgresql_nulls_not_distinct=True),)

    id: str = Field(primary_key=True)
    name: str
    parent_id: str | None = Field(default=None, foreign_key="user.id")
    plan: str = Field(foreign_key="plan.name")
    notified: int = 0  # number of the last notification
    created_at: datetime = _when(now=True)


class ApiKey(SQLModel, table=True):
    __tablename__ = "api_key"

    digest: str = Field(primary_key=True)  # SHA-256 of the key: it is 256 random bits, so no salt and no stretching
    user_id: str = Field(foreign_key="user.id", index=True)
    service: bool = False  # may act for its own end users
    created_at: datetime = _when(now=True)
    revoked_at: datetime | None = _when()


class Run(SQLModel, table=True):
    """One Prefect flow run of ours: the outbox for its creation, and the lock under which work is handed to it."""

    __table_args__ = (
        Index("run_open", "user_id", "kind", postgresql_where=text("closed_at IS NULL")),
        Index("run_not_closed", "created_at", postgresql_where=text("closed_at IS NULL")),
        Index("run_closed", "closed_at", postgresql_where=text("closed_at IS NOT NULL")),
    )

    id: str = Field(primary_key=True)  # also the idempotency key under which the flow run is created
    user_id: str = Field(foreign_key="user.id")
    kind: str  # name of the flow
    deployment: str = _on_demand()  # … and of its deployment, without the flow's
    shared: bool  # takes further jobs of its user; a run that a person started does not
    flow_run_id: UUID | None = Field(default=None, unique=True)
    created_at: datetime = _when(now=True)
    asks: bool = False  # left with a form: an event does not resume it
    left_at: datetime | None = _when()  # Prefect has accepted its suspension: only an event brings it back
    woken_at: datetime | None = _when()  # the event was due; unset again when the run enters
    alive_until: datetime | None = _when()  # renewed by the process that carries it
    recoveries: int = 0  # how often, in quick succession, it was brought back after its process was lost
    recovered_at: datetime | None = _when()
    closed_at: datetime | None = _when()


class Job(SQLModel, table=True):
    """What a user asked for."""

    __table_args__ = (
        UniqueConstraint("user_id", "idempotency_key"),
        Index("job_by_user", "user_id", "created_at", "id", postgresql_where=text("parent_id IS NULL")),
        Index("job_carried", "run_id", postgresql_where=text("run_id IS NOT NULL AND finished_at IS NULL")),
        Index(
            "job_child",
            "parent_id",
            "stage",
            "manifest_row",
            unique=True,
            postgresql_where=text("parent_id IS NOT NULL"),
        ),
        Index(
            "job_open_child",
            "parent_id",
            postgresql_where=text("parent_id IS NOT NULL AND finished_at IS NULL"),
        ),
        Index("job_slotless", "id", postgresql_where=text("slotless AND run_id IS NULL AND finished_at IS NULL")),
        Index("job_of_start", "start_id", postgresql_where=text("start_id IS NOT NULL AND finished_at IS NULL")),
        Index("job_dead", "finished_at", "id", postgresql_where=text("status = 'failed'")),
    )

    id: str = Field(primary_key=True)
    user_id: str = Field(foreign_key="user.id")
    kind: str
    deployment: str = _on_demand()
    start_id: str | None = None  # the `HeldStart` that it began as; that names the job
    status: JobStatus = Field(default=JobStatus.PENDING, sa_type=Text)
    run_id: str | None = Field(default=None, foreign_key="run.id", index=True)
    parent_id: str | None = Field(default=None, foreign_key="job.id")  # the batch that it is a row of
    stage: Stage | None = Field(default=None, sa_type=Text)  # … in its first pass or its second
    slotless: bool = False  # no row of it waits for a slot: a run takes it as it is
    manifest_row: int | None = None  # place in the parent's manifest
    parameters: Json = _json()
    idempotency_key: str | None = None
    body_hash: str | None = None  # of the body that came with the idempotency key
    cancel_requested_at: datetime | None = _when()
    replayed_at: datetime | None = _when()  # what was tried before does not count against the attempts
    replay_id: str | None = Field(default=None, foreign_key="replay.id")  # whose budget it has, since it was replayed
    discarded_at: datetime | None = _when()  # a person has said that nothing more is to become of it
    discard_reason: str | None = None
    progress: Json | None = _json()  # how far it has come, while it is under way: {"percent", "text"}
    result: Json | None = _json()  # what it came to beside its files, by kind of job
    error: Json | None = _json()
    created_at: datetime = _when(now=True)
    started_at: datetime | None = _when()
    finished_at: datetime | None = _when()


class Request(SQLModel, table=True):
    """One paid call."""

    __table_args__ = (
        UniqueConstraint("job_id", "step", "attempt"),
        Index("request_queue", "user_id", "lane", "created_at", "ref", postgresql_where=text("status = 'queued'")),
        # Who waits elsewhere than at fal: read with each grant, so fal's own rows are left out.
        Index(
            "request_queue_elsewhere",
            "account_id",
            postgresql_where=text("status = 'queued' AND account_id <> 'fal'"),
        ),
        Index(
            "request_reusable",
            "user_id",
            "reuse_hash",
            postgresql_where=text("reuse_hash IS NOT NULL AND status = 'succeeded'"),
        ),
        Index("request_due", "not_before", postgresql_where=text("status = 'queued' AND not_before IS NOT NULL")),
        Index(
            "request_slots",
            "user_id",
            "endpoint",
            postgresql_where=text("status IN ('granted', 'submitting', 'in_flight', 'unknown')"),
        ),
        Index(
            "request_unseen",
            "finished_at",
            postgresql_where=text("status = 'succeeded' AND output IS NULL"),
        ),
        Index(
            "request_paid",
            "user_id",
            "finished_at",
            postgresql_include=["cost_usd"],
            postgresql_where=text("cost_usd IS NOT NULL"),
        ),
        Index("request_of_replay", "replay_id", postgresql_where=text("replay_id IS NOT NULL")),
    )

    ref: str = Field(primary_key=True)
    job_id: str = Field(foreign_key="job.id", index=True)
    user_id: str = Field(foreign_key="user.id")
    account_id: str = Field(foreign_key="account.id")
    step: str
    attempt: int
    endpoint: str
    input: Json = _json()
    input_hash: str
    reuse_hash: str | None = None  # of a call whose answer serves the user again: endpoint, input, files by content
    reused_from: str | None = Field(default=None, foreign_key="request.ref")  # whose answer this is; nothing was paid
    lane: Lane = Field(sa_type=SmallInteger)
    status: RequestStatus = Field(default=RequestStatus.QUEUED, sa_type=Text)
    token: str = Field(unique=True)  # 128 random bits in the webhook's URL: the signature does not cover the query
    request_id: str | None = Field(default=None, unique=True)  # the provider's
    not_before: datetime | None = _when()
    probe: bool = False  # granted to learn whether the provider is back
    created_at: datetime = _when(now=True)
    granted_at: datetime | None = _when()
    submitted_at: datetime | None = _when()
    accepted_at: datetime | None = _when()
    deadline_at: datetime | None = _when()
    cancel_requested_at: datetime | None = _when()
    finished_at: datetime | None = _when()
    delivered_via: str | None = None  # "webhook" or "poll"
    output: Json | None = _json()  # the provider's answer; None on a success means: fetch it
    error: Json | None = _json()
    estimate_usd: Decimal = _usd(Decimal(0))
    cost_usd: Decimal | None = _usd()
    replay_id: str | None = Field(default=None, foreign_key="replay.id")  # whose budget it counts against


class Asset(SQLModel, table=True):
    """A verified file in the media store."""

    __table_args__ = (UniqueConstraint("job_id", "step", "n"),)

    id: str = Field(primary_key=True)
    job_id: str | None = Field(default=None, foreign_key="job.id")  # None: a user brought it
    user_id: str = Field(foreign_key="user.id")
    ref: str | None = Field(default=None, foreign_key="request.ref")  # the paid call it came from
    step: str
    n: int
    key: str
    sha256: str
    content_type: str
    bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    width: int | None = None  # pixels, of pictures and films
    height: int | None = None
    seconds: float | None = Field(default=None, sa_type=Double)  # of films and sound
    collected_at: datetime | None = _when()  # the provider's answer was in hand, the fetch of the file began
    created_at: datetime = _when(now=True)


class Batch(SQLModel, table=True):
    """A job of many rows, in two passes with a person's choice between them."""

    job_id: str = Field(primary_key=True, foreign_key="job.id")
    rows: int
    forecast: Json = _json()  # USD, as text: {"draft", "final_all"}
    paused_at: datetime | None = _when()  # nothing more of it is granted
    asked_at: datetime | None = _when()  # its first pass is done, a person is asked
    answer_by: datetime | None = _when()  # then the policy answers; None: it waits for as long as it takes
    winners: list[int] | None = Field(default=None, sa_type=JSONB)  # rows, from 0
    chosen_at: datetime | None = _when()
    chosen_via: str | None = None  # "api", "ui" or "policy"


class BatchRow(SQLModel, table=True):
    """A row of a batch's manifest, as it was given."""

    __tablename__ = "batch_row"

    batch_id: str = Field(primary_key=True, foreign_key="batch.job_id")
    n: int = Field(primary_key=True)  # from 0
    name: str | None = None  # the user's own id of it
    picture: Json = _json()
    same_as: int | None = None  # the row whose picture serves for it: identical, and to be paid once


class Lora(SQLModel, table=True):
    """A style or face that was trained, as one version of its trigger word."""

    __table_args__ = (UniqueConstraint("user_id", "trigger_word", "version"),)

    id: str = Field(primary_key=True)
    user_id: str = Field(foreign_key="user.id")
    job_id: str = Field(foreign_key="job.id", unique=True)  # the training
    trigger_word: str
    version: int
    weights_asset_id: str = Field(foreign_key="asset.id")
    config_asset_id: str = Field(foreign_key="asset.id")
    sample_asset_id: str | None = Field(default=None, foreign_key="asset.id")
    status: LoraStatus = Field(sa_type=Text)
    created_at: datetime = _when(now=True)


class ProviderCopy(SQLModel, table=True):
    """Where a provider has a file of the media store, for as long as it keeps it: weights go there once a day."""

    __tablename__ = "provider_copy"

    asset_id: str = Field(primary_key=True, foreign_key="asset.id")
    account_id: str = Field(primary_key=True, foreign_key="account.id")
    url: str
    expires_at: datetime = Field(sa_type=DateTime(timezone=True))


class Delivery(SQLModel, table=True):
    """A webhook that was verified, and what became of it."""

    __table_args__ = (Index("delivery_late", "received_at", postgresql_where=text("verdict = 'late'")),)

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    provider: str
    request_id: str = Field(index=True)
    ref: str | None = Field(default=None, foreign_key="request.ref", index=True)
    verdict: str
    body_sha256: str
    cost_usd: Decimal | None = _usd()  # of a duplicate that was paid
    received_at: datetime = _when(now=True)


class Event(SQLModel, table=True):
    """Something that happened in a user's application."""

    __table_args__ = (
        UniqueConstraint("source", "key"),
        Index("event_by_source", "source", "received_at"),
        Index("event_by_name", "name", "received_at", postgresql_where=text("status = 'accepted'")),
        Index("event_untold", "received_at", postgresql_where=text("told_at IS NULL AND status = 'accepted'")),
    )

    id: str = Field(primary_key=True)
    source: str  # whose key sent it: the same `key` from there is the same event
    key: str | None = None  # the sender's own id of it
    user_id: str | None = Field(default=None, foreign_key="user.id")  # whom it is about; None: nobody in particular
    name: str
    version: int | None = None
    data: Json | None = _json()
    status: EventStatus = Field(sa_type=Text)
    problem: Json | None = _json()  # of a refused one: {"field", "message"}
    occurred_at: datetime = _when(now=True)  # as its sender says
    received_at: datetime = _when(now=True)
    told_at: datetime | None = _when()  # Prefect has it in its feed


class Wait(SQLModel, table=True):
    """What a job waits for beside paid calls: a time, an event, another job."""

    __table_args__ = (
        UniqueConstraint("job_id", "name"),
        Index("wait_for_event", "event_name", "user_id", postgresql_where=text("status = 'open'")),
        Index("wait_due", "until", postgresql_where=text("status = 'open'")),
        Index("wait_for_child", "child_job_id", postgresql_where=text("child_job_id IS NOT NULL")),
    )

    id: str = Field(primary_key=True)
    job_id: str = Field(foreign_key="job.id")
    user_id: str = Field(foreign_key="user.id")
    name: str  # of the step, one of its kind in the job
    kind: WaitKind = Field(sa_type=Text)
    status: WaitStatus = Field(sa_type=Text)
    event_name: str | None = None
    match: str | None = None  # a condition on the event's data (CEL)
    child_job_id: str | None = Field(default=None, foreign_key="job.id")
    until: datetime | None = _when()
    event_id: str | None = Field(default=None, foreign_key="event.id")  # that came
    settled_by: str | None = None  # "event", "time", "child" or "hand"
    created_at: datetime = _when(now=True)
    settled_at: datetime | None = _when()


class FlowControl(SQLModel, table=True):
    """How a deployment's runs may begin, as it was declared last. Its lock is what who lets them begin holds."""

    __tablename__ = "flow_control"

    deployment: str = Field(primary_key=True)  # "sync-profile/debounced"
    terms: Json = _json()


class HeldStart(SQLModel, table=True):
    """A run that events ask for: gathering more of them, waiting for its turn, begun as a job, or dropped."""

    __tablename__ = "start"
    __table_args__ = (
        Index(
            "start_gathering",
            "deployment",
            "user_id",
            "gather_key",
            unique=True,
            postgresql_where=text("status = 'gathering'"),
        ),
        Index(
            "start_due", "due_at", postgresql_where=text("status IN ('gathering', 'waiting') AND due_at IS NOT NULL")
        ),
        Index(
            "start_waiting", "deployment", "gate_key", "ranked_at", "id", postgresql_where=text("status = 'waiting'")
        ),
        Index("start_by_user", "user_id", "created_at", "id"),
        Index("start_held", "user_id", postgresql_where=text("status IN ('gathering', 'waiting')")),
        Index(
            "start_begun",
            "deployment",
            "rate_key",
            "settled_at",
            postgresql_where=text("status = 'begun' AND rate_key IS NOT NULL"),
        ),
        Index(
            "start_paced",
            "deployment",
            "throttle_key",
            "paced_until",
            postgresql_where=text("status = 'begun' AND throttle_key IS NOT NULL"),
        ),
    )

    id: str = Field(primary_key=True)
    deployment: str
    user_id: str = Field(foreign_key="user.id")
    status: StartStatus = Field(sa_type=Text)
    gather_key: str | None = None  # events with the same one, of the same user, are one start
    takes_all: bool = False  # the run is given all events, as a list; else the last one
    # Over whom each limit counts; None: it has none.
    rate_key: str | None = None
    throttle_key: str | None = None
    singleton_key: str | None = None
    concurrency_key: str | None = None
    gate_key: str  # all four: starts that wait for the same are one line
    priority: int = 0  # seconds that it stands before its time
    parameters: Json = _json()  # of the last event
    events: int  # that it stands for
    bytes: int  # of their parameters
    created_at: datetime = _when(now=True)
    ranked_at: datetime = _when(now=True)  # its place among those that wait
    due_at: datetime | None = _when()  # gathering: when it goes on; waiting: not before
    reason: str | None = None  # dropped: why; waiting: what for
    job_id: str | None = Field(default=None, foreign_key="job.id")
    paced_until: datetime | None = _when()  # begun: when the next of its throttle has its even place
    settled_at: datetime | None = _when()  # begun or dropped


class Replay(SQLModel, table=True):
    """Failed jobs that were put back together, and what they may cost in all."""

    id: str = Field(primary_key=True)
    budget_usd: Decimal | None = _usd()
    created_at: datetime = _when(now=True)


class EventEffect(SQLModel, table=True):
    """What an event started or woke, or why it did not."""

    __tablename__ = "event_effect"
    __table_args__ = (Index("effect_of_start", "start_id", "start_n", postgresql_where=text("start_id IS NOT NULL")),)

    event_id: str = Field(primary_key=True, foreign_key="event.id")
    n: int = Field(primary_key=True)
    what: EffectKind = Field(sa_type=Text)
    deployment: str | None = None
    job_id: str | None = Field(default=None, foreign_key="job.id")
    wait_id: str | None = Field(default=None, foreign_key="wait.id")
    start_id: str | None = Field(default=None, foreign_key="start.id")
    start_n: int | None = None  # its place among the start's events, from 1
    parameters: Json | None = _json()  # that it gives the start
    reason: str | None = None
    at: datetime = _when(now=True)


class Step(SQLModel, table=True):
    """An unpaid side effect of a job, done once as far as that can be known."""

    job_id: str = Field(primary_key=True, foreign_key="job.id")
    name: str = Field(primary_key=True)
    attempts: int
    result: Json | None = _json()  # {"value": …}
    error: Json | None = _json()  # of the last attempt that failed
    begun_at: datetime = _when(now=True)
    done_at: datetime | None = _when()  # the result is on record


class Notification(SQLModel, table=True):
    """News for a user, numbered without gaps for each."""

    user_id: str = Field(foreign_key="user.id", primary_key=True)
    number: int = Field(primary_key=True)
    job_id: str = Field(foreign_key="job.id")
    event: str
    created_at: datetime = _when(now=True)


# Now, and not with the first session: rows are read without one (`database.plain`), and their attributes need it.
configure_mappers()
