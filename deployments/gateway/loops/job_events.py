"""The one thread of a gateway that makes events of the ends of jobs (`darkroom/events/job_ends.py`).

It comes when the news feed has read of one, and every few seconds for those that it missed; with the gateway gone,
`reconcile` does it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from darkroom.errors import DarkroomError
from darkroom.events import EventIngest, ingest_ends
from darkroom.ledger import NOTHING, Implied, Ledger

logger = logging.getLogger(__name__)

SECONDS_TO_FINISH = 5.0


class JobEvents:
    def __init__(self, ledger: Ledger, ingest: EventIngest, act_on: Callable[[Implied], None]) -> None:
        """`act_on`: carries out what the events imply."""
        self._ledger = ledger
        self._ingest = ingest
        self._act_on = act_on
        self._idle = ledger.timing.events_idle.total_seconds()
        self._after_failure = ledger.timing.events_failed.total_seconds()
        self._flag = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="job events", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopping.set()
        self._flag.set()
        self._thread.join(SECONDS_TO_FINISH)

    def wake(self) -> None:
        """There is the end of a job. Returns at once."""
        self._flag.set()

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._flag.clear()
            seconds = self._take()
            if seconds == self._after_failure:
                self._stopping.wait(seconds)
            else:
                self._flag.wait(seconds)

    def _take(self) -> float:
        """Make events of what has ended. Return for how many seconds to rest."""
        try:
            while not self._stopping.is_set():
                found, implied = ingest_ends(self._ledger, self._ingest)
                if implied != NOTHING:
                    self._act_on(implied)
                if not found:
                    return self._idle
        except (DarkroomError, SQLAlchemyError) as error:
            logger.warning("Ends of jobs are no events yet: %s", type(error).__name__)
        except Exception:
            logger.exception("Ends of jobs are no events yet")
        return self._after_failure
