"""How much of an account may be used just now: the breaker and the throttle, as pure functions of its row.

The breaker opens when the provider is out. Nothing is granted then but one probe at a time; the first that the provider
answers closes it, and everything that waited goes on by itself, with no attempt used up. The throttle halves the slots
when the provider says 429, and gives a halving back every quarter of a minute.
"""

from __future__ import annotations

from datetime import datetime, timedelta

FIRST_PROBE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(seconds=30)  # between two probes
# A probe whose answer does not come in this time, perhaps because its process has died, is followed by another.
PROBE_PATIENCE = timedelta(seconds=45)
HALVED_FOR = timedelta(seconds=15)
ONE_BURST = timedelta(seconds=2)  # 429s so close together say one thing
MOST_HALVINGS = 10


def pause_after(failed_probes: int) -> timedelta:
    doublings: int = 2 ** min(failed_probes, 10)
    return min(FIRST_PROBE * doublings, LONGEST_PAUSE)


def halvings_now(halvings: int, slowed_at: datetime | None, *, now: datetime) -> int:
    """How many of them still hold."""
    if slowed_at is None:
        return 0
    return max(halvings - (now - slowed_at) // HALVED_FOR, 0)


def slots_now(slots: int, *, halvings: int, slowed_at: datetime | None, now: datetime) -> int:
    """An account that has any slots keeps one."""
    return max(slots >> halvings_now(halvings, slowed_at, now=now), min(slots, 1))


def halve_again(halvings: int, slowed_at: datetime | None, *, now: datetime) -> int | None:
    """The halvings after another 429; None where it belongs to the burst that was counted already."""
    if slowed_at is not None and now - slowed_at < ONE_BURST:
        return None
    return min(halvings_now(halvings, slowed_at, now=now) + 1, MOST_HALVINGS)
