"""When to try again: exponential with full jitter, never before the provider's Retry-After."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta

from blocks.errors import DarkroomError, Park

MOST_ATTEMPTS = 3  # of a step whose failure may pass
_FIRST = timedelta(seconds=2)
_LONGEST = timedelta(minutes=5)
_OUTAGE = timedelta(seconds=30)


def next_try(error: DarkroomError, *, tries: int, now: datetime, draw: Callable[[], float] = random.random) -> datetime:
    """`tries`: how often it was tried already. `draw` gives a number in [0, 1)."""
    longest = _OUTAGE if isinstance(error, Park) else min(_LONGEST, _FIRST * 2**tries)
    return now + (error.retry_after or timedelta(0)) + longest * draw()
