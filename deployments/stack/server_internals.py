"""Every private name of Prefect's server that the local stack's leans on, and why. Prefect is pinned to 3.9 for them.

A lone picture costs Prefect's server more than everybody else together. What is left out here nobody reads, or was done
a moment ago. One fault is mended: `load_automations_until_they_are_loaded`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary

from docket import Docket, Worker
from prefect.server.api import background_workers, validation
from prefect.server.database.orm_models import Deployment, WorkQueue
from prefect.server.events import triggers
from prefect.server.events.services import event_persister
from prefect.server.models import deployments
from prefect.server.models.deployments import mark_deployments_ready
from prefect.server.models.work_queues import mark_work_queues_ready
from prefect.server.utilities.database import Timestamp
from prefect.server.utilities.messaging import Message
from sqlalchemy import Dialect, event
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.orm import joinedload
from sqlalchemy.pool import Pool

__all__ = [
    "bind_plain_timestamps",
    "do_background_work_patiently",
    "keep_no_events_of_task_runs",
    "load_automations_until_they_are_loaded",
    "mark_ready_every_now_and_then",
    "ping_when_idle",
    "read_deployments_at_once",
    "validate_job_variables_once",
]

logger = logging.getLogger(__name__)

LOOK_EVERY = timedelta(seconds=1)
IDLE_SECONDS = 1.0  # a connection that was not used for so long is tried first
MARKED_SECONDS = 15.0  # what was not polled for sixty is shown as not ready
MOST_KNOWN = 256
OF_TASK_RUNS = "prefect.task-run."


def bind_plain_timestamps() -> None:
    """Give the driver plain timestamps: it subtracts each, for which Prefect's own class takes 0.1 ms."""
    bind = Timestamp.process_bind_param

    def bind_plain(self: Timestamp, value: datetime | None, dialect: Dialect) -> datetime | None:
        return plain(bind(self, value, dialect))

    Timestamp.process_bind_param = bind_plain  # type: ignore[method-assign]


def plain(value: datetime | None) -> datetime | None:
    """Return the same time of the library's own class."""
    if value is None or type(value) is datetime:
        return value
    return datetime(
        value.year,
        value.month,
        value.day,
        value.hour,
        value.minute,
        value.second,
        value.microsecond,
        tzinfo=value.tzinfo,
        fold=value.fold,
    )


def ping_when_idle() -> None:
    """Try a connection before its use only where it lay idle. By default each session does: three round trips."""
    used_at: WeakKeyDictionary[Any, float] = WeakKeyDictionary()
    ping: Callable[..., bool] = PGDialect_asyncpg.do_ping

    @event.listens_for(Pool, "checkin")
    def note(connection: Any, _: Any) -> None:
        if connection is not None:  # None: it was invalidated
            used_at[connection.driver_connection] = time.monotonic()

    def ping_idle(self: PGDialect_asyncpg, connection: Any) -> bool:
        if time.monotonic() - used_at.get(connection.driver_connection, float("-inf")) < IDLE_SECONDS:
            return True
        return ping(self, connection)

    PGDialect_asyncpg.do_ping = ping_idle  # type: ignore[method-assign]


def validate_job_variables_once() -> None:
    """Validate the same variables against the same template once. By default each new run does: 15 ms."""
    validate: Callable[..., Awaitable[None]] = validation._validate_work_pool_job_variables
    valid: set[str] = set()

    async def validate_once(session: Any, pool: str, *documents: Any, **how: Any) -> None:
        said = json.dumps([documents, how], sort_keys=True, default=repr)
        if said in valid:
            return
        await validate(session, pool, *documents, **how)
        if '"$ref"' not in said:  # of a block, which may change
            if len(valid) >= MOST_KNOWN:
                valid.clear()
            valid.add(said)

    validation._validate_work_pool_job_variables = validate_once  # type: ignore[assignment]


def keep_no_events_of_task_runs() -> None:
    """Keep no events of task runs, half of all. Their states are kept, and automations hear of them all the same."""
    create: Callable[..., Any] = event_persister.create_handler

    @asynccontextmanager
    async def create_handler(**how: Any) -> AsyncIterator[Callable[[Message], Awaitable[None]]]:
        async with create(**how) as handle:

            async def handle_others(message: Message) -> None:
                if not (message.attributes or {}).get("event", "").startswith(OF_TASK_RUNS):
                    await handle(message)

            yield handle_others

    event_persister.create_handler = create_handler  # type: ignore[assignment]


def load_automations_until_they_are_loaded() -> None:
    """Load the automations with a later turn where they cannot be at the start.

    By default what evaluates events ends then, for as long as the server runs and without a word: a Postgres that is
    five seconds late, and no automation acts.
    """
    load: Callable[..., Awaitable[bool]] = triggers.reconcile_automations

    async def load_or_later(force: bool = False) -> bool:
        try:
            return await load(force)
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            # A turn itself, which comes every few seconds and logs; or the server's end. A connection that fails may
            # look like a cancel, too.
            if not force or (task is not None and task.cancelling()):
                raise
            logger.warning("The automations cannot be loaded yet (%s); the next turn does", type(error).__name__)
            return False

    triggers.reconcile_automations = load_or_later


def read_deployments_at_once() -> None:
    """Read a deployment with its schedules, its queue and the pool of that by one statement. By default they are four.

    Most rules about a run's state read it.
    """
    whole = (
        joinedload(Deployment.schedules),
        joinedload(Deployment.work_queue).joinedload(WorkQueue.work_pool),
    )

    async def read_deployment(session: Any, deployment_id: Any) -> Deployment | None:
        found: Deployment | None = await session.get(Deployment, deployment_id, options=whole)
        return found

    deployments.read_deployment = read_deployment


def mark_ready_every_now_and_then() -> None:
    """Mark what is ready as polled every quarter of a minute. By default each poll does: 10 ms."""
    add: Callable[..., Any] = Docket.add
    marked: dict[str | None, tuple[str, float]] = {}

    def add_unless_marked(self: Docket, function: Any, when: datetime | None = None, key: str | None = None) -> Any:
        mark = add(self, function, when=when, key=key)
        if function not in (mark_deployments_ready, mark_work_queues_ready):
            return mark

        async def unless_marked(**which: Any) -> Any:
            said, now = repr(which), time.monotonic()
            before, at = marked.get(key, ("", 0.0))
            if said == before and now - at < MARKED_SECONDS and not which.get("ready_work_queue_ids"):
                return None
            marked[key] = said, now
            return await mark(**which)

        return unless_marked

    Docket.add = add_unless_marked  # type: ignore[method-assign]


class PatientWorker(Worker):
    """Looks once a second for what has become due, and listens for no cancels."""

    # By default it looks some twenty times a second, with a script of Redis' where there is none: a quarter of what a
    # stack at rest takes of the machine. What is to be done at once wakes it; no service comes more often than every
    # fifteen seconds, and the server never cancels what it has planned.

    def __init__(self, docket: Docket) -> None:
        super().__init__(docket, minimum_check_interval=LOOK_EVERY, scheduling_resolution=LOOK_EVERY)

    async def _cancellation_listener(self) -> None:
        if (session := self._processing_session) is not None:
            session.cancellation_ready.set()
            await session.stopping.wait()


def do_background_work_patiently() -> None:
    """Have the server's services and its postponed work done by a worker that looks once a second."""
    background_workers.Worker = PatientWorker  # type: ignore[attr-defined,assignment]
