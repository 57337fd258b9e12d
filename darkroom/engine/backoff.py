"""When to try again, and how often: exponential with full jitter, never before the provider's Retry-After."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from darkroom.errors import DarkroomError
from darkroom.timing import Timing


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Of a step. Each attempt is a paid call of its own; refusals before the provider has taken one are none.

    `resubmit_expired`: also a call of which nobody knows whether it was paid; False leaves that to a person.
    """

    attempts: int = 3
    first: timedelta = timedelta(seconds=2)
    longest: timedelta = timedelta(minutes=5)
    resubmit_expired: bool = True


USUAL = RetryPolicy()


def next_try(
    error: DarkroomError,
    *,
    tries: int,
    now: datetime,
    policy: RetryPolicy = USUAL,
    timing: Timing,
    draw: Callable[[], float] = random.random,
) -> datetime:
    """Return when to try again: after the provider's `Retry-After` and a random share of the policy's pause.

    `tries`: how often it was tried already; each doubles the pause, up to the policy's longest. `draw` gives a number
    in [0, 1), the share. The policy's pauses are scaled, the provider's `Retry-After` is not.
    """
    doublings: int = 2 ** min(tries, 30)  # past it the longest pause holds, and a timedelta overflows
    pause = timing.scale(min(policy.longest, policy.first * doublings))
    # A share of all of it: what failed together does not come back together.
    return now + (error.retry_after or timedelta(0)) + pause * draw()
