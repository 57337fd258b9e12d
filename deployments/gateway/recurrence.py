"""How often the same thing came within a minute, of as many things as are worth the memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

WINDOW_SECONDS = 60.0
MOST_IN_WINDOW = 30  # so often nobody sends one again: fal does 31 times at most, and takes an hour
MOST_KEPT = 10_000


class Recurrence:
    """Thread-safe. What came least recently is forgotten first."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def too_often(self, key: Hashable) -> bool:
        """Count it. Return whether it has come more often within its minute than anybody needs."""
        now = self._clock()
        with self._lock:
            began, times = self._seen.pop(key, (now, 0))  # and back in at the end, so that the oldest is first
            if now - began >= WINDOW_SECONDS:
                began, times = now, 0
            self._seen[key] = began, times + 1
            if len(self._seen) > MOST_KEPT:
                self._seen.popitem(last=False)
            return times >= MOST_IN_WINDOW
