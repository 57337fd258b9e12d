"""Counts what strangers can send without end, and logs at most one line per reason and minute."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 60.0


class LogThrottle:
    def __init__(self, what: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._clock = clock
        self._lock = threading.Lock()
        self._said_at: dict[str, float] = {}
        self._unsaid: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()  # since the start

    def count(self, reason: str) -> None:
        now = self._clock()
        with self._lock:
            self.counts[reason] += 1
            self._unsaid[reason] += 1
            if now - self._said_at.get(reason, float("-inf")) < INTERVAL_SECONDS:
                return
            self._said_at[reason] = now
            number = self._unsaid.pop(reason)
        # Without the lock: a log that is slow holds up nobody who counts.
        logger.warning("%s: %s × %s", self._what, number, reason)
