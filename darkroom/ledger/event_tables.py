"""The tables of what happens beside paid calls: events, what they start and how, waits and steps, and news."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Column,
    Identity,
    Index,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import configure_mappers
from sqlmodel import Field, SQLModel

from darkroom.ledger.columns import Json, depth, json_object, when
from darkroom.ledger.statuses import EffectKind, EventStatus, PendingStatus, WaitKind, WaitStatus


class Event(SQLModel, table=True):
    """Something that happened in a user's application."""

    __table_args__ = (
        UniqueConstraint("source", "key"),
        Index("event_by_source", "source", "received_at"),
        Index("event_by_name", "name", "received_at", postgresql_where=text("status = 'accepted'")),
        Index("event_by_time", "received_at", "id"),
        Index("event_of_user", "user_id", "received_at", "id", postgresql_where=text("user_id IS NOT NULL")),
        Index("event_refused", "received_at", "id", postgresql_where=text("status = 'refused'")),
        Index("event_untold", "received_at", postgresql_where=text("told_at IS NULL AND status = 'accepted'")),
    )

    id: str = Field(primary_key=True)
    source: str  # whose key sent it: the same `key` from there is the same event
    key: str | None = None  # the sender's own id of it
    user_id: str | None = Field(default=None, foreign_key="user.id")  # whom it is about; None: about no user
    name: str
    version: int | None = None
    depth: int = depth()
    data: Json | None = json_object()
    status: EventStatus = Field(sa_type=Text)
    problem: Json | None = json_object()  # of a refused one: {"field", "message"}
    occurred_at: datetime = when(now=True)  # as its sender says
    received_at: datetime = when(now=True)
    published_at: datetime | None = when(column="told_at", attribute="published_at")  # Prefect has it in its feed


class Wait(SQLModel, table=True):
    """What a job waits for beside paid calls: a time, an event, another job."""

    __table_args__ = (
        UniqueConstraint("job_id", "name"),
        Index("wait_for_event", "event_name", "user_id", postgresql_where=text("status = 'open'")),
        Index("wait_due", "until", postgresql_where=text("status = 'open'")),
        Index("wait_took", "event_id", postgresql_where=text("event_id IS NOT NULL")),
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
    until: datetime | None = when()
    event_id: str | None = Field(default=None, foreign_key="event.id")  # that came
    settled_by: str | None = None  # "event", "time", "child" or "hand"
    created_at: datetime = when(now=True)
    settled_at: datetime | None = when()


class FlowControl(SQLModel, table=True):
    """How a deployment's runs may begin, as it was declared last. Its lock is what who lets them begin holds."""

    __tablename__ = "flow_control"

    deployment: str = Field(primary_key=True)  # "sync-profile/debounced"
    terms: Json = json_object()


class PendingRun(SQLModel, table=True):
    """A run that events ask for: collecting more of them, waiting for its turn, started as a job, or dropped."""

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
        Index("start_of_deployment", "deployment", "id"),
        Index("start_settled", "settled_at", postgresql_where=text("settled_at IS NOT NULL")),
        Index("start_dropped", "id", postgresql_where=text("status = 'dropped'")),
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
    status: PendingStatus = Field(sa_type=Text)
    gather_key: str | None = None  # events with the same one, of the same user, are one run
    takes_all: bool = False  # the run is given all events, as a list; else the last one
    # Over whom each limit counts; None: it has none.
    rate_key: str | None = None
    throttle_key: str | None = None
    singleton_key: str | None = None
    concurrency_key: str | None = None
    gate_key: str  # all four: runs that wait for the same are one line
    priority: int = 0  # seconds that it stands before its time
    parameters: Json = json_object()  # of the last event
    events: int  # that it stands for
    bytes: int  # of their parameters
    created_at: datetime = when(now=True)
    ranked_at: datetime = when(now=True)  # its place among those that wait
    due_at: datetime | None = when()  # collecting: when it goes on; waiting: not before
    reason: str | None = None  # dropped: why; waiting: what for
    job_id: str | None = Field(default=None, foreign_key="job.id")
    paced_until: datetime | None = when()  # begun: when the next of its throttle has its even place
    settled_at: datetime | None = when()  # begun or dropped


class EventEffect(SQLModel, table=True):
    """What an event started or woke, or why it did not."""

    __tablename__ = "event_effect"
    __table_args__ = (
        Index("effect_of_start", "start_id", "start_n", postgresql_where=text("start_id IS NOT NULL")),
        Index("effect_cancels", "deployment", "at", postgresql_where=text("what = 'cancels'")),
        Index("effect_cancelled", "at", postgresql_where=text("what = 'cancelled'")),
    )

    event_id: str = Field(primary_key=True, foreign_key="event.id")
    n: int = Field(primary_key=True)
    what: EffectKind = Field(sa_type=Text)
    deployment: str | None = None
    job_id: str | None = Field(default=None, foreign_key="job.id")
    wait_id: str | None = Field(default=None, foreign_key="wait.id")
    start_id: str | None = Field(default=None, foreign_key="start.id")
    start_n: int | None = None  # its place among the run's events, from 1
    parameters: Json | None = json_object()  # that it gives the run
    reason: str | None = None
    at: datetime = when(now=True)


class Step(SQLModel, table=True):
    """An unpaid side effect of a job, done once as far as that can be known."""

    job_id: str = Field(primary_key=True, foreign_key="job.id")
    name: str = Field(primary_key=True)
    attempts: int
    result: Json | None = json_object()  # {"value": …}
    error: Json | None = json_object()  # of the last attempt that failed
    begun_at: datetime = when(now=True)
    done_at: datetime | None = when()  # the result is on record


class Notification(SQLModel, table=True):
    """News for a user. `news.py` says how it is numbered."""

    __table_args__ = (
        Index("notification_place_key", "place", unique=True),
        Index("notification_of_user", "user_id", "place"),
        Index("notification_of_job", "job_id", "place", postgresql_where=text("job_id IS NOT NULL")),
        Index("notification_new", "id", postgresql_where=text("place IS NULL")),
        Index("notification_told", "created_at"),
        Index("notification_to_ingest", "id", postgresql_where=text("to_ingest")),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    place: int | None = Field(default=None, sa_type=BigInteger)  # in the stream; given after the commit
    user_id: str = Field(foreign_key="user.id")
    number: int | None = None  # written by the version before 0008, and read by nobody
    job_id: str | None = Field(default=None, foreign_key="job.id")
    event: str
    data: Json | None = json_object()
    to_ingest: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})  # as an event, too
    created_at: datetime = when(now=True)


configure_mappers()  # as in `tables.py`
