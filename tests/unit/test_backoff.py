"""When a step is tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from darkroom.engine.backoff import RetryPolicy, next_try
from darkroom.errors import DarkroomError, RateLimited, Retry
from darkroom.timing import UNSCALED

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("error", "tries", "longest"),
    [
        (Retry("again"), 1, 4),
        (Retry("again"), 3, 16),
        (Retry("again"), 30, 300),
        (RateLimited("slower", retry_after=timedelta(seconds=10)), 1, 14),
    ],
)
def test_the_wait_grows_is_jittered_and_obeys_retry_after(error: DarkroomError, tries: int, longest: float) -> None:
    """Full jitter between the provider's Retry-After and the longest wait."""
    first = next_try(error, tries=tries, now=NOW, timing=UNSCALED, draw=lambda: 0.0)
    last = next_try(error, tries=tries, now=NOW, timing=UNSCALED, draw=lambda: 1.0)
    assert first == NOW + (error.retry_after or timedelta(0))
    assert last == NOW + timedelta(seconds=longest)


def test_pauses_are_scaled_and_what_the_provider_asks_for_is_not() -> None:
    """Ours are ours to shorten; its `Retry-After` is a promise that it breaks no sooner."""
    tenth, error = UNSCALED.scaled(0.1), RateLimited(retry_after=timedelta(seconds=7))
    due = next_try(error, tries=1, now=NOW, timing=tenth, draw=lambda: 1.0)
    assert due - NOW == timedelta(seconds=7) + timedelta(seconds=4) / 10


def test_a_step_may_have_its_own_patience() -> None:
    """A policy is given where the step is asked for."""
    policy = RetryPolicy(first=timedelta(minutes=1), longest=timedelta(minutes=3))
    pauses = [
        next_try(Retry(), tries=tries, now=NOW, policy=policy, timing=UNSCALED, draw=lambda: 1.0) - NOW
        for tries in (1, 2, 200)
    ]
    assert pauses == [timedelta(minutes=2), timedelta(minutes=3), timedelta(minutes=3)]
