"""How fast a run submits: no faster than it can collect.

Nothing else keeps a process from submitting hundreds of requests in the second before the first result comes. Then they
all come at once, and finished pictures wait for those before them.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class TokenBucket:
    """So many at once, then so many a second. `clock` gives seconds, monotonic."""

    def __init__(self, *, at_once: int, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._at_once = at_once
        self._per_second = per_second
        self._clock = clock
        self._saved = float(at_once)
        self._counted = clock()

    def take(self) -> bool:
        """Take a token if there is one. Return whether one more may go now."""
        self._count()
        if self._saved < 1:
            return False
        self._saved -= 1
        return True

    @property
    def saved(self) -> float:
        """Return how many may go at once now."""
        self._count()
        return self._saved

    @property
    def seconds(self) -> float:
        """Return the seconds until the next may go."""
        self._count()
        return max(0.0, (1 - self._saved) / self._per_second)

    def _count(self) -> None:
        now = self._clock()
        self._saved = min(self._at_once, self._saved + (now - self._counted) * self._per_second)
        self._counted = now
