"""Flow control's decisions, case by case: which starts begin, which are dropped, which wait, and until when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from darkroom.ledger.event_tables import PendingRun
from darkroom.ledger.flow_control.rules import (
    MOST_BYTES,
    Begin,
    Decision,
    Drop,
    Hold,
    Running,
    Standing,
    collects_until,
    decide,
    has_capacity,
    is_full,
)
from darkroom.ledger.flow_control.terms import Terms
from darkroom.ledger.statuses import PendingStatus

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def start(
    name: str = "a", *, seconds: float = 0, key: str | None = "k", priority: int = 0, **columns: Any
) -> PendingRun:
    """One that waits since so many seconds; `key`: of every limit."""
    created_at = NOW - timedelta(seconds=seconds)
    given: dict[str, Any] = {
        "id": name,
        "deployment": "sync-profile/debounced",
        "user_id": "usr_1",
        "status": PendingStatus.WAITING,
        "rate_key": key,
        "throttle_key": key,
        "singleton_key": key,
        "concurrency_key": key,
        "gate_key": str(key),
        "parameters": {},
        "events": 1,
        "bytes": 0,
        "created_at": created_at,
        "ranked_at": created_at - timedelta(seconds=priority),
    }
    return PendingRun(**given | columns)


def running(job_id: str = "job_1", *, key: str = "k", cancelling: bool = False) -> Running:
    return Running(job_id=job_id, singleton_key=key, concurrency_key=key, cancelling=cancelling)


def told(decisions: list[Decision]) -> dict[str, str]:
    """Start → what is decided, for looking at."""
    return {each.pending.id: type(each).__name__.lower() for each in decisions}


def one(decisions: list[Decision], name: str) -> Decision:
    return next(each for each in decisions if each.pending.id == name)


THROTTLE = Terms.model_validate({"throttle": {"limit": 2, "period": "60s"}})
BURST = Terms.model_validate({"throttle": {"limit": 4, "period": "120s", "burst": 3}})


def test_a_throttle_lets_begin_evenly() -> None:
    """Two a minute are one each 30 seconds: the first at once, the next has its place."""
    decisions = decide(
        [start("a", seconds=3), start("b", seconds=2), start("c", seconds=1)], Standing(), THROTTLE, now=NOW
    )
    assert told(decisions) == {"a": "begin", "b": "hold"}
    first, held = one(decisions, "a"), one(decisions, "b")
    assert isinstance(first, Begin)
    assert first.paced_until == NOW + 30 * SECOND
    assert isinstance(held, Hold)
    assert held.until == NOW + 30 * SECOND
    assert "2 of its key begin each 1 min" in held.reason


def test_a_throttle_lets_as_many_as_its_burst_go_ahead() -> None:
    """Then each has its even place again, counted from the first."""
    waiting = [start(name, seconds=9 - n) for n, name in enumerate("abcd")]
    decisions = decide(waiting, Standing(), BURST, now=NOW)
    assert told(decisions) == {"a": "begin", "b": "begin", "c": "begin", "d": "hold"}
    held = one(decisions, "d")
    assert isinstance(held, Hold)
    assert held.until == NOW + 30 * SECOND


def test_a_throttle_goes_on_from_what_has_begun() -> None:
    """However the turns are divided."""
    assert told(decide([start()], Standing(paced={"k": NOW}), THROTTLE, now=NOW)) == {"a": "begin"}
    assert told(decide([start()], Standing(paced={"k": NOW + SECOND}), THROTTLE, now=NOW)) == {"a": "hold"}
    assert told(decide([start(key="other")], Standing(paced={"k": NOW + SECOND}), THROTTLE, now=NOW)) == {"a": "begin"}


REFUSES = Terms.model_validate({"rate_limit": {"limit": 2, "period": "60s", "over": "refuse"}})
QUEUES = Terms.model_validate({"rate_limit": {"limit": 2, "period": "60s", "over": "queue"}})
BEGUN = {"k": [NOW - 10 * SECOND, NOW - 50 * SECOND, NOW - 70 * SECOND]}


def test_a_rate_limit_refuses_those_beyond_it() -> None:
    """By choice; each of them."""
    decisions = decide([start("a"), start("b"), start("c", key="other")], Standing(begun=BEGUN), REFUSES, now=NOW)
    assert told(decisions) == {"a": "drop", "b": "drop", "c": "begin"}
    assert "2 of its key have begun within 1 min, the most (rate limit)" in str(one(decisions, "a"))


def test_a_long_period_is_told_in_full() -> None:
    """Also where it is no whole number of minutes."""
    terms = Terms.model_validate({"rate_limit": {"limit": 2, "period": "1234567s", "over": "refuse"}})
    decisions = decide([start("a")], Standing(begun=BEGUN), terms, now=NOW)
    assert "within 1234567 s, the most" in str(one(decisions, "a"))


def test_a_rate_limit_counts_what_begins_in_the_same_turn() -> None:
    decisions = decide([start(name) for name in "abc"], Standing(), REFUSES, now=NOW)
    assert told(decisions) == {"a": "begin", "b": "begin", "c": "drop"}


def test_a_rate_limit_queues_those_beyond_it() -> None:
    """By choice; until the window has room for one."""
    held = one(decide([start("a"), start("b")], Standing(begun=BEGUN), QUEUES, now=NOW), "a")
    assert isinstance(held, Hold)
    assert held.until == NOW + 10 * SECOND


def singleton(when_running: str) -> Terms:
    return Terms.model_validate({"singleton": {"when_running": when_running}})


def test_a_singleton_skips_while_one_is_under_way() -> None:
    """And of those that come together the first begins."""
    decisions = decide([start("a"), start("b")], Standing(running=[running()]), singleton("skip"), now=NOW)
    assert told(decisions) == {"a": "drop", "b": "drop"}
    assert "job_1 of its key is under way (singleton: skip)" in str(one(decisions, "a"))
    assert told(decide([start("a"), start("b")], Standing(), singleton("skip"), now=NOW)) == {"a": "begin", "b": "drop"}


def test_a_singleton_cancels_the_old_one_and_waits_for_its_end() -> None:
    """It is asked to end once; of several new ones the last is what counts."""
    waiting = [start("a", seconds=2), start("b", seconds=1)]
    decisions = decide(waiting, Standing(running=[running()]), singleton("cancel"), now=NOW)
    assert told(decisions) == {"a": "drop", "b": "hold"}
    held = one(decisions, "b")
    assert isinstance(held, Hold)
    assert held.cancels == ("job_1",)
    again = one(decide(waiting, Standing(running=[running(cancelling=True)]), singleton("cancel"), now=NOW), "b")
    assert isinstance(again, Hold)
    assert again.cancels == ()
    assert told(decide(waiting, Standing(), singleton("cancel"), now=NOW)) == {"a": "drop", "b": "begin"}


def test_a_singleton_queues_behind_the_old_one() -> None:
    waiting = [start("a", seconds=2), start("b", seconds=1), start("c", key="other")]
    assert told(decide(waiting, Standing(running=[running()]), singleton("queue"), now=NOW)) == {
        "a": "hold",
        "c": "begin",
    }
    assert told(decide(waiting, Standing(), singleton("queue"), now=NOW)) == {"a": "begin", "b": "hold", "c": "begin"}


def test_concurrency_counts_what_is_under_way_of_a_key() -> None:
    terms = Terms.model_validate({"concurrency": {"limit": 2}})
    waiting = [start("a", seconds=2), start("b", seconds=1), start("c", key="other")]
    decisions = decide(waiting, Standing(running=[running()]), terms, now=NOW)
    assert told(decisions) == {"a": "begin", "b": "hold", "c": "begin"}
    assert "2 of its key are under way, the most (concurrency)" in str(one(decisions, "b"))


def test_those_that_stand_before_their_time_come_first() -> None:
    """A priority of 5 is worth as much as having come 5 seconds earlier."""
    waiting = [start("a", seconds=4), start("b", seconds=0, priority=5)]
    assert told(decide(waiting, Standing(), THROTTLE, now=NOW)) == {"b": "begin", "a": "hold"}
    waiting = [start("a", seconds=6), start("b", seconds=0, priority=5)]
    assert told(decide(waiting, Standing(), THROTTLE, now=NOW)) == {"a": "begin", "b": "hold"}


def test_limits_hold_together() -> None:
    """One that is throttled uses up no place of the rate limit, and one that is skipped none of the throttle."""
    both = Terms.model_validate(
        {
            "throttle": {"limit": 1, "period": "60s"},
            "singleton": {"when_running": "skip"},
            "rate_limit": {"limit": 1, "period": "60s"},
        }
    )
    decisions = decide([start("a")], Standing(running=[running()]), both, now=NOW)
    assert told(decisions) == {"a": "drop"}
    later = decide([start("b")], Standing(paced={"k": NOW + SECOND}), both, now=NOW)
    assert told(later) == {"b": "hold"}


def test_a_limit_that_is_not_declared_any_more_holds_nobody_up() -> None:
    """The terms of today rule those that came under others."""
    assert told(decide([start()], Standing(running=[running()], paced={"k": NOW + SECOND}), Terms(), now=NOW)) == {
        "a": "begin"
    }


@pytest.mark.parametrize(
    ("declared", "seconds"),
    [
        ({"debounce": {"period": "5s"}}, 5),
        ({"debounce": {"period": "5s", "longest": "12s"}}, 2),  # ten of them are over
        ({"debounce": {"period": "1s", "longest": "12s"}}, 1),
        ({"batch": {"size": 100, "longest": "15s"}}, 5),
        ({"debounce": {"period": "30s"}, "batch": {"size": 100, "longest": "15s"}}, 5),
        ({"debounce": {"period": "3s"}, "batch": {"size": 100, "longest": "15s"}}, 3),
    ],
)
def test_how_long_a_start_gathers(declared: dict[str, Any], seconds: float) -> None:
    """Each event starts the period anew; the longest is counted from the first one, ten seconds ago."""
    terms = Terms.model_validate(declared)
    assert collects_until(start(seconds=10), terms, now=NOW) == NOW + seconds * SECOND


def test_a_start_gathers_no_more_than_a_run_can_be_given() -> None:
    assert has_capacity(start(takes_all=True, bytes=MOST_BYTES - 10), bytes=10)
    assert not has_capacity(start(takes_all=True, bytes=MOST_BYTES - 10), bytes=11)
    assert has_capacity(start(takes_all=True, events=9_999), bytes=1)
    assert not has_capacity(start(takes_all=True, events=10_000), bytes=1)
    assert has_capacity(start(takes_all=True, events=0), bytes=MOST_BYTES + 1)  # alone it goes as it is
    assert has_capacity(start(takes_all=False, events=50_000), bytes=MOST_BYTES)


def test_a_batch_is_full_at_its_size() -> None:
    terms = Terms.model_validate({"batch": {"size": 3, "longest": "60s"}})
    assert is_full(start(events=3), terms)
    assert not is_full(start(events=2), terms)
    assert not is_full(start(events=50), Terms.model_validate({"debounce": {"period": "60s"}}))


def test_a_dropped_one_holds_nobody_up() -> None:
    decisions = decide([start("a"), start("b", key="free")], Standing(running=[running()]), singleton("skip"), now=NOW)
    assert [type(each) for each in decisions] == [Drop, Begin]
