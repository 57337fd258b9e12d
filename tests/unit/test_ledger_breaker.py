"""How much of an account may be used after an outage and after a 429."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from darkroom.ledger.breaker import halve_again, pause_after, slots_now
from darkroom.timing import UNSCALED

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def test_probes_come_less_often_the_longer_it_takes() -> None:
    """A second after it went down, then twice as long each time, up to a bound."""
    assert [pause_after(failed, timing=UNSCALED).total_seconds() for failed in range(6)] == [1, 2, 4, 8, 16, 30]
    assert pause_after(1_000_000, timing=UNSCALED) == UNSCALED.longest_probe_pause


SLOTS = {
    "never slowed": (10, 0, None, 10),
    "just halved": (10, 1, 0.0, 5),
    "halved twice": (10, 2, 0.0, 2),
    "one slot is left, however often": (10, 10, 0.0, 1),
    "a halving is given back after its time": (10, 2, UNSCALED.halved_for.total_seconds(), 5),
    "and the next": (10, 2, 2 * UNSCALED.halved_for.total_seconds(), 10),
    "not before": (10, 1, UNSCALED.halved_for.total_seconds() - 0.1, 5),
    "an account shut by its operator stays shut": (0, 1, 0.0, 0),
}


@pytest.mark.parametrize(("slots", "halvings", "since", "expected"), SLOTS.values(), ids=SLOTS.keys())
def test_slots_after_a_429(slots: int, halvings: int, since: float | None, expected: int) -> None:
    """Half of them for a while, and back step by step."""
    slowed_at = None if since is None else ago(since)
    assert slots_now(slots, halvings=halvings, slowed_at=slowed_at, now=NOW, timing=UNSCALED) == expected


HALVINGS = {
    "the first": (0, None, 1),
    "another of the same burst says nothing new": (1, 0.5, None),
    "a later one halves again": (1, 5.0, 2),
    "one after the slots were given back starts anew": (3, 600.0, 1),
}


@pytest.mark.parametrize(("halvings", "since", "expected"), HALVINGS.values(), ids=HALVINGS.keys())
def test_another_429(halvings: int, since: float | None, expected: int | None) -> None:
    """A burst of requests that were on their way together counts once."""
    assert halve_again(halvings, None if since is None else ago(since), now=NOW, timing=UNSCALED) == expected
