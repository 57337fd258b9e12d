"""How fast a run submits."""

from __future__ import annotations

import pytest

from darkroom.engine.token_bucket import TokenBucket


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def taken(pace: TokenBucket, wanted: int) -> int:
    return sum(pace.take() for _ in range(wanted))


def test_so_many_go_at_once_and_no_more(clock: Clock) -> None:
    """A handful of pictures is not held up at all."""
    pace = TokenBucket(at_once=5, per_second=10, clock=clock)
    assert taken(pace, 9) == 5
    assert pace.seconds == pytest.approx(0.1)


def test_then_they_go_one_after_the_other(clock: Clock) -> None:
    """At the rate given, whoever asks how often."""
    pace = TokenBucket(at_once=5, per_second=10, clock=clock)
    taken(pace, 5)
    gone = 0
    for _ in range(100):
        clock.now += 0.01
        gone += taken(pace, 3)
    assert gone == 10


def test_rest_is_saved_up_to_the_first_number(clock: Clock) -> None:
    """A run that has lingered for long does not send a flood."""
    pace = TokenBucket(at_once=5, per_second=10, clock=clock)
    taken(pace, 5)
    clock.now += 3600
    assert pace.seconds == 0
    assert taken(pace, 9) == 5
