"""How the worker hears at once of what concerns it, instead of asking Prefect ever more often.

Two sources, each only faster than the poll behind it: the ledger notifies when a flow run of ours was created or
resumed (after the commit, so the next poll finds it), and Prefect's event stream tells of runs that were started or
resumed by others, cancelled or suspended. While a source is out, polling goes on.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from uuid import UUID

import anyio
from prefect.events import Event
from prefect.events.clients import PrefectEventSubscriber, get_events_subscriber
from prefect.events.filters import EventAnyResourceFilter, EventFilter, EventNameFilter

from darkroom.errors import way_to
from darkroom.ledger import OUTAGES, READY, Ledger
from darkroom.timing import Timing

logger = logging.getLogger(__name__)

PREFIX = "prefect.flow-run."
USER_TAG = "prefect.tag.user:"
GOODBYE_SECONDS = 1.0


class Changes:
    """State changes of the pool's flow runs, by the state's name."""

    READY = frozenset({"Scheduled", "Resuming", "Recovering", "AwaitingRetry", "Late"})
    CANCELLING = "Cancelling"
    SUSPENDED = "Suspended"


async def hear_prefect(
    pool_id: UUID,
    notify: Callable[[str, UUID, datetime], None],
    *,
    poll: Callable[[], Awaitable[None]],
    again: timedelta,
) -> None:
    """Call `notify(name of the state, flow run, when)` for ever.

    While Prefect's events cannot be heard, call `poll`, and try to hear them again after `again`.
    """
    names = [PREFIX + name for name in (*Changes.READY, Changes.CANCELLING, Changes.SUSPENDED)]
    wanted = EventFilter(
        event=EventNameFilter(name=names), any_resource=EventAnyResourceFilter(id=[f"prefect.work-pool.{pool_id}"])
    )
    while True:
        try:
            async with _subscribed(wanted) as events:
                async for event in events:
                    if not _told_by_the_ledger(event):
                        notify(*_read(event))
        except Exception as error:
            # Whatever Prefect's client raises: polling goes on.
            logger.warning("Prefect's events cannot be heard (%s); polling meanwhile", type(error).__name__)
            await _polled(poll)
        await asyncio.sleep(again.total_seconds())


async def _polled(poll: Callable[[], Awaitable[None]]) -> None:
    try:
        await poll()
    except Exception as error:  # whatever answers in Prefect's place, as a proxy's page does: it is asked again
        logger.warning("Prefect could not be asked for what became of runs (%s)", type(error).__name__)


@asynccontextmanager
async def _subscribed(wanted: EventFilter) -> AsyncIterator[PrefectEventSubscriber]:
    """Subscribe to those events, and leave with a goodbye that is not waited for long."""
    events = get_events_subscriber(filter=wanted)
    await events.__aenter__()
    try:
        yield events
    finally:
        # It would wait up to ten seconds for the server's, and a worker that is being stopped with it.
        with anyio.move_on_after(GOODBYE_SECONDS, shield=True):
            await events.__aexit__(None, None, None)


def _told_by_the_ledger(event: Event) -> bool:
    """Tell whether the ledger tells of the event too: it is about a run of ours that was just created."""
    # Prefect tells of it before its commit, the ledger after.
    created = event.event == PREFIX + "Scheduled"
    return created and any(resource.id.startswith(USER_TAG) for resource in event.related)


def _read(event: Event) -> tuple[str, UUID, datetime]:
    run = event.resource.id.rpartition(".")[2]
    return event.event.removeprefix(PREFIX), UUID(run), event.occurred


class LedgerListener:
    """A thread that listens to the ledger and calls `notify` in the loop.

    It outlives every outage of the ledger. What does not pass, a ledger that refuses us, ends it, and is logged.
    """

    def __init__(self, ledger: Ledger, notify: Callable[[], None], *, timing: Timing) -> None:
        self._ledger = ledger
        self._again = timing.listen_again.total_seconds()
        self._notify = notify
        self._loop = asyncio.get_running_loop()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True, name="ledger-ear")
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()

    def _listen(self) -> None:
        try:
            self._listen_through_outages()
        except Exception as error:
            if not self._stopping.is_set():  # else the loop is closed, and nobody to be told any more
                logger.error("The ledger is heard no more, until the worker is restarted: %s", way_to(error))

    def _listen_through_outages(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._ledger.listen(READY) as listener:
                    while not self._stopping.is_set():
                        if listener.wait(self._again):
                            self._loop.call_soon_threadsafe(self._notify)
            except OUTAGES as error:
                logger.warning("The ledger cannot be heard (%s); polling meanwhile", type(error).__name__)
                self._stopping.wait(self._again)
