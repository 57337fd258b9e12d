"""How much of an account may be used just now: the breaker and the throttle, as pure functions of its row.

The breaker opens when the provider is out. Nothing is granted then but one probe at a time; the first that the provider
answers closes it, and everything that waited goes on by itself, with no attempt used up. The throttle halves the slots
when the provider says 429, and gives a halving back every `halved_for`.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from darkroom.timing import Timing

MOST_HALVINGS = 10


def pause_after(failed_probes: int, *, timing: Timing) -> timedelta:
    doublings: int = 2 ** min(failed_probes, 10)  # past it the longest pause holds, and a timedelta overflows
    return min(timing.first_probe * doublings, timing.longest_probe_pause)


def halvings_now(halvings: int, slowed_at: datetime | None, *, now: datetime, timing: Timing) -> int:
    """Return how many of the halvings still hold."""
    if slowed_at is None:
        return 0
    return max(halvings - (now - slowed_at) // timing.halved_for, 0)


def slots_now(slots: int, *, halvings: int, slowed_at: datetime | None, now: datetime, timing: Timing) -> int:
    """Return the slots after the halvings that hold now. An account that has any slots keeps one."""
    return max(slots >> halvings_now(halvings, slowed_at, now=now, timing=timing), min(slots, 1))


def halve_again(halvings: int, slowed_at: datetime | None, *, now: datetime, timing: Timing) -> int | None:
    """Return the halvings after another 429; None where it belongs to the burst that was counted already."""
    if slowed_at is not None and now - slowed_at < timing.one_burst:
        return None
    return min(halvings_now(halvings, slowed_at, now=now, timing=timing) + 1, MOST_HALVINGS)
