"""The tables of the ledger.

`request` is the heart: one row for every paid call, at once the fair queue, the crash journal, the webhook inbox and
the audit trail.

Defined once, as SQLModel classes; instances also serve as the rows that the hot SQL statements return. Migrations
live beside in `migrations/`.
"""

from __future__ import annotations

import secrets
import time
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    Identity,
    Index,
    Numeric,
    SmallInteger,
    Text,
    UniqueConstraint,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import configure_mappers
from sqlmodel import Field, SQLModel

from darkroom.ledger.columns import (
    Json,
    depth,
    json_object,
    markup,
    on_demand,
    stored_as,
    switched_off,
    usd,
    usd_billed,
    when,
    words_anywhere,
)
from darkroom.ledger.pricing import price
from darkroom.ledger.statuses import BatchPass, JobStatus, Lane, RequestStatus

MOST_QUEUED = 20_000
WORDS = (  # what tells best what was ordered, where it has no prompt of its own
    "COALESCE(parameters #>> '{input,prompt}', parameters #>> '{input,text}', parameters ->> 'text', "
    "parameters ->> 'topic', parameters ->> 'instruction', parameters ->> 'name', parameters ->> 'title')"
)


def new_id(prefix: str = "") -> str:
    """Return a random id whose beginning is the time, so that rows written together lie together in the index.

    Those of one process are in the order in which they were made, in steps of 16 ns: so are the events of one call, and
    what they start.
    """
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    return f"{prefix}{milliseconds:012x}{rest >> 4:04x}{secrets.token_hex(6)}"


class Account(SQLModel, table=True):
    """An account at a provider, and what it allows at once."""

    id: str = Field(primary_key=True)  # "fal", "gemini", "elevenlabs", "mux", "web"
    slots: int
    user_slots: int | None = None  # most that one user holds at once; None: as many as the plan says
    endpoint_caps: Json = json_object()  # endpoint → most at once
    provider_user_id: str | None = None  # learned from the first webhook whose request id we hold
    # The grant's own, written under this row's lock.
    grants: int = Field(default=0, sa_type=BigInteger)  # so far: every tenth is the lowest lane's
    passed: Json = Field(default_factory=dict, sa_type=JSONB)  # lane → its virtual time, see `Turn`
    # The breaker: with `down_since` set nothing is granted but one probe whenever `probe_at` has come.
    down_since: datetime | None = when()
    probe_at: datetime | None = when()
    failed_probes: int = 0
    down_reason: str | None = None  # where a person has to do something about it
    down_notified_at: datetime | None = when()
    # The throttle: how often the slots were halved after a 429, and when last.
    halvings: int = 0
    slowed_at: datetime | None = when()


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
    daily_budget_usd: Decimal | None = usd()
    monthly_budget_usd: Decimal | None = usd()
    markup: Decimal = markup()
    most_queued: int = MOST_QUEUED  # rows of one user that wait; an order beyond is refused
    calls_per_minute: int | None = None  # with one key, at one gateway; None: as many as come


class User(SQLModel, table=True):
    """Who asks for work. A user of a service (`parent_id`) is made on first use by that service's key."""

    __table_args__ = (UniqueConstraint("parent_id", "name", postgresql_nulls_not_distinct=True),)

    id: str = Field(primary_key=True)
    name: str
    parent_id: str | None = Field(default=None, foreign_key="user.id")
    plan: str = Field(foreign_key="plan.name")
    notified: int = 0  # counted by the version before migration 0008 alone
    daily_budget_usd: Decimal | None = usd()  # their own; None: the plan's
    monthly_budget_usd: Decimal | None = usd()
    created_at: datetime = when(now=True)


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
    deployment: str = on_demand()  # … and of its deployment, without the flow's
    shared: bool  # takes further jobs of its user; a run that a person started does not
    flow_run_id: UUID | None = Field(default=None, unique=True)
    created_at: datetime = when(now=True)
    awaits_input: bool = Field(
        default=False, sa_column_kwargs=stored_as("asks", "awaits_input")
    )  # suspended with a form: an event does not resume it
    # Prefect has accepted its suspension: only an event brings it back
    suspended_at: datetime | None = when(column="left_at", attribute="suspended_at")
    woken_at: datetime | None = when()  # the event was due; unset again when the run enters
    alive_until: datetime | None = when()  # renewed by the process that carries it
    recoveries: int = 0  # how often, in quick succession, it was brought back after its process was lost
    recovered_at: datetime | None = when()
    closed_at: datetime | None = when()


class Job(SQLModel, table=True):
    """What a user asked for."""

    __table_args__ = (
        UniqueConstraint("user_id", "idempotency_key"),
        Index("job_by_user", "user_id", "created_at", "id", postgresql_where=text("parent_id IS NULL")),
        Index("job_open", "user_id", "kind", postgresql_where=text("parent_id IS NULL AND finished_at IS NULL")),
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
        # For lists of one kind, and of what is rare among a user's many.
        Index("job_of_kind", "user_id", "kind", "created_at", "id", postgresql_where=text("parent_id IS NULL")),
        Index(
            "job_in_vain",
            "user_id",
            "status",
            "created_at",
            "id",
            postgresql_where=text("parent_id IS NULL AND status IN ('failed', 'cancelled')"),
        ),
        Index("job_ended", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
        Index("job_dead", "finished_at", "id", postgresql_where=text("status = 'failed'")),
        Index("job_letter", "finished_at", "id", postgresql_where=text("status = 'failed' AND discarded_at IS NULL")),
        Index(
            "job_to_requeue",
            literal_column("(kind <> 'render-batch')").label("rows_last"),
            "finished_at",
            "id",
            postgresql_where=text("status = 'failed' AND discarded_at IS NULL"),
        ),
        Index("job_tagged", "tags", postgresql_using="gin", postgresql_where=text("tags <> '{}'")),
        words_anywhere("job_prompt", "(parameters ->> 'prompt')", where="parent_id IS NULL"),
        # Of orders that have their words elsewhere. The statements that look for them say the same.
        words_anywhere("job_words", WORDS, where=f"parent_id IS NULL AND {WORDS} IS NOT NULL"),
    )

    id: str = Field(primary_key=True)
    user_id: str = Field(foreign_key="user.id")
    kind: str
    deployment: str = on_demand()
    start_id: str | None = None  # the `PendingRun` that it began as; that names the job
    status: JobStatus = Field(default=JobStatus.PENDING, sa_type=Text)
    run_id: str | None = Field(default=None, foreign_key="run.id", index=True)
    parent_id: str | None = Field(default=None, foreign_key="job.id")  # the batch that it is a row of
    stage: BatchPass | None = Field(default=None, sa_type=Text)  # … in its first pass or its second
    slotless: bool = False  # no row of it waits for a slot: a run takes it as it is
    manifest_row: int | None = None  # place in the parent's manifest
    parameters: Json = json_object()
    depth: int = depth()
    # What its user calls it by: for filters, reports and what is told of it.
    tags: list[str] = Field(default_factory=list, sa_column=Column(ARRAY(Text), nullable=False, server_default="{}"))
    meta: Json | None = json_object()  # `metadata` over HTTP; SQLModel has another use for that name
    idempotency_key: str | None = None
    body_hash: str | None = None  # of the body that came with the idempotency key
    estimate_usd: Decimal | None = usd()  # the most that the whole should cost, where that was known by then
    markup: Decimal = markup()  # of its user's plan when it was ordered
    cancel_requested_at: datetime | None = when()
    replayed_at: datetime | None = when()  # what was tried before does not count against the attempts
    replay_id: str | None = Field(default=None, foreign_key="replay.id")  # whose budget it has, since it was replayed
    discarded_at: datetime | None = when()  # a person has said that nothing more is to become of it
    discard_reason: str | None = None
    held_reason: str | None = None  # what its run could not do at `held_at`, and tries again
    held_at: datetime | None = when()
    progress: Json | None = json_object()  # how far it has come, while it is under way: {"percent", "text"}
    result: Json | None = json_object()  # what it came to beside its files, by kind of job
    error: Json | None = json_object()
    created_at: datetime = when(now=True)
    started_at: datetime | None = when()
    finished_at: datetime | None = when()


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
        Index("request_unseen", "finished_at", postgresql_where=text("status = 'succeeded' AND output IS NULL")),
        Index(
            "request_uncosted",
            "finished_at",
            postgresql_where=text("status IN ('succeeded', 'expired') AND cost_usd IS NULL AND billed_usd IS NULL"),
        ),
        Index(
            "request_spent",
            "user_id",
            "finished_at",
            postgresql_include=["cost_usd", "billed_usd"],
            postgresql_where=text("cost_usd IS NOT NULL OR billed_usd IS NOT NULL"),
        ),
        Index(
            "request_unbilled",
            "account_id",
            literal_column("COALESCE(bill_due_at, finished_at)").label("due"),
            postgresql_where=text("finished_at IS NOT NULL AND request_id IS NOT NULL AND NOT bill_closed"),
        ),
        Index("request_ended", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
        Index("request_of_replay", "replay_id", postgresql_where=text("replay_id IS NOT NULL")),
        Index(
            "request_costed",
            "endpoint",
            "finished_at",
            postgresql_include=["cost_usd"],
            postgresql_where=text("status = 'succeeded' AND cost_usd > 0"),
        ),
    )

    ref: str = Field(primary_key=True)
    job_id: str = Field(foreign_key="job.id", index=True)
    user_id: str = Field(foreign_key="user.id")
    account_id: str = Field(foreign_key="account.id")
    step: str
    attempt: int
    endpoint: str
    model_version: int | None = None  # of the card it was checked and priced by; None: a model without one
    input: Json = json_object()
    input_hash: str
    reuse_hash: str | None = None  # of a call whose answer serves the user again: endpoint, input, files by content
    reused_from: str | None = Field(default=None, foreign_key="request.ref")  # whose answer this is; nothing was paid
    lane: Lane = Field(sa_type=SmallInteger)
    status: RequestStatus = Field(default=RequestStatus.QUEUED, sa_type=Text)
    token: str = Field(unique=True)  # 128 random bits in the webhook's URL: the signature does not cover the query
    request_id: str | None = Field(default=None, unique=True)  # the provider's
    not_before: datetime | None = when()
    probe: bool = False  # granted to learn whether the provider is back
    created_at: datetime = when(now=True)
    granted_at: datetime | None = when()
    submitted_at: datetime | None = when()
    sent_ahead: bool = switched_off()  # by a gateway, at the grant, while its run was not there yet
    adopted_at: datetime | None = when()  # … and its run has shown it
    accepted_at: datetime | None = when()
    deadline_at: datetime | None = when()
    cancel_requested_at: datetime | None = when()
    finished_at: datetime | None = when()
    delivered_via: str | None = None  # "webhook" or "poll"
    output: Json | None = json_object()  # the provider's answer; None on a success means: fetch it
    error: Json | None = json_object()
    estimate_usd: Decimal = usd(Decimal(0))
    cost_usd: Decimal | None = usd()
    markup: Decimal = markup()  # of its job
    billed_usd: Decimal | None = usd_billed()  # what the provider's bill says, which comes later
    billed_source: str | None = None  # … and what of the provider's has told it
    billed_at: datetime | None = when()  # … and when it was read last
    bill_due_at: datetime | None = when()  # the bill is asked for (again); None: from the end of the call on
    bill_closed: bool = switched_off()  # … and not any more
    replay_id: str | None = Field(default=None, foreign_key="replay.id")  # whose budget it counts against
    first_try: str | None = None  # the provider's id of the try that it began with, where it tells
    last_try: str | None = None  # … and of the one that its webhook told of, where that is another

    @property
    def retried(self) -> bool | None:
        """Return whether the provider has tried the call again by itself; None where it does not say."""
        says = self.first_try is not None and self.delivered_via == "webhook"
        return self.last_try not in (None, self.first_try) if says else None

    @property
    def price_usd(self) -> Decimal | None:
        return None if self.cost_usd is None else price(self.cost_usd, self.markup)


class Asset(SQLModel, table=True):
    """A verified file in the media store."""

    __table_args__ = (UniqueConstraint("job_id", "step", "n"), Index("asset_of_user", "user_id", "created_at", "id"))

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
    flagged: bool | None = None  # its model says that it is not safe for work; None: it says nothing
    hidden: bool = False  # flagged, and the order says to hide that: on record, and shown to nobody
    collected_at: datetime | None = when()  # the provider's answer was in hand, the fetch of the file began
    created_at: datetime = when(now=True)
    deleted_at: datetime | None = when()  # its owner wanted it gone; nothing shows it any more


class Delivery(SQLModel, table=True):
    """A webhook that was verified, and its outcome."""

    __table_args__ = (
        Index("delivery_late", "received_at", postgresql_where=text("verdict = 'late'")),
        Index("delivery_paid", "received_at", postgresql_where=text("cost_usd > 0")),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    provider: str
    request_id: str = Field(index=True)
    ref: str | None = Field(default=None, foreign_key="request.ref", index=True)
    verdict: str
    body_sha256: str
    cost_usd: Decimal | None = usd()  # of a duplicate that was paid
    received_at: datetime = when(now=True)
    times: int = 1  # the very same webhook, again and again, is one row
    last_received_at: datetime | None = when()


# Now, and not with the first session: rows are read without one (`database.plain`), and their attributes need it.
configure_mappers()
