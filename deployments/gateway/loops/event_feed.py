"""The one thread of a gateway that brings accepted events into Prefect's feed, a few at a time.

At that pace (`darkroom/events/feed.py` says why) ten thousand take under a minute. It comes when an event was accepted
here, and every few seconds for those that flows sent; with the gateway gone, `reconcile` tells what was not told.
"""

from __future__ import annotations

import logging
import threading
from types import TracebackType
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from darkroom.errors import DarkroomError
from darkroom.events.feed import tell_some
from darkroom.ledger import Ledger
from darkroom.orchestrator import Orchestrator

logger = logging.getLogger(__name__)

BETWEEN_SECONDS = 0.25  # 200 events a second, which Prefect can take beside its own
SECONDS_TO_FINISH = 5.0


class EventPublisher:
    def __init__(self, ledger: Ledger, orchestrator: Orchestrator) -> None:
        self._ledger = ledger
        self._orchestrator = orchestrator
        self._idle = ledger.timing.events_idle.total_seconds()
        self._after_failure = ledger.timing.events_failed.total_seconds()
        self._flag = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="event publisher", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopping.set()
        self._flag.set()
        self._thread.join(SECONDS_TO_FINISH)

    def wake(self) -> None:
        """There is something to tell. Returns at once."""
        self._flag.set()

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._flag.clear()
            seconds = self._tell()
            if seconds == self._idle:
                self._flag.wait(seconds)
            else:
                self._stopping.wait(seconds)

    def _tell(self) -> float:
        """Publish accepted events to Prefect. Return for how many seconds to rest."""
        try:
            told = tell_some(self._ledger, self._orchestrator, before=self._ledger.clock())
            return BETWEEN_SECONDS if told else self._idle
        except (DarkroomError, SQLAlchemyError) as error:
            logger.warning("Events are not in Prefect's feed yet: %s", type(error).__name__)
        except Exception:
            logger.exception("Events are not in Prefect's feed yet")
        return self._after_failure
