"""Starts on the ledger: none of the events is lost, and no limit is passed, whoever comes at the same time."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from implying import assigned, begun, cancelled
from interleaving import all_at_once
from ledger_databases import Db
from support import SLOW, wait_until

from darkroom.clock import utc_now
from darkroom.ledger import (
    NOTHING,
    EffectKind,
    EventStart,
    Implied,
    Job,
    JobStatus,
    Ledger,
    NewEvent,
    PendingRun,
    PendingStatus,
    Received,
)
from darkroom.ledger.flow_control.rules import MOST_BYTES
from darkroom.ledger.flow_control.terms import Held, Terms

SYNC = "sync-profile/debounced"
NAME = "user.profile_completed"


def held(key: str = "k", *, priority: int = 0, **declared: Any) -> Held:
    """Every limit that is declared counts over that key."""
    terms = Terms.model_validate(declared)
    return Held(
        terms=terms,
        gather_key=key if terms.collects else None,
        rate_key=key if terms.rate_limit else None,
        throttle_key=key if terms.throttle else None,
        singleton_key=key if terms.singleton else None,
        concurrency_key=key if terms.concurrency else None,
        priority=priority,
    )


def event(user_id: str, by: Held, n: int = 0, **parameters: Any) -> NewEvent:
    start = EventStart(deployment=SYNC, parameters={"n": n, **parameters}, held=by)
    return NewEvent(name=NAME, user_id=user_id, owner_id=user_id, data={"n": n}, starts=[start])


def send(ledger: Ledger, *events: NewEvent) -> tuple[list[Received], Implied]:
    return ledger.events.receive("ann's key", events, matches=_matches)


def _matches(condition: str, data: Mapping[str, Any]) -> bool | str:
    return True


def begin(ledger: Ledger, implied: Implied) -> list[str]:
    """What the dispatcher does: as long as there may be more. Returns the jobs."""
    jobs: list[str] = []
    while begun(implied):
        implied = ledger.pending_runs.begin(*set(begun(implied)))
        jobs += assigned(implied)
    return jobs


def begin_due(ledger: Ledger) -> list[str]:
    return begin(ledger, ledger.pending_runs.release())


def starts(ledger: Ledger, status: PendingStatus | None = None) -> list[PendingRun]:
    """Oldest first."""
    return ledger.pending_runs.page(status=status, limit=100)[::-1]


def job(ledger: Ledger, job_id: str) -> Job:
    found = ledger.jobs.get(job_id)
    assert found is not None
    return found


def end(ledger: Ledger, job_id: str) -> list[str]:
    """The jobs that begin for it."""
    return begin(ledger, ledger.jobs.finish(job_id, JobStatus.COMPLETED))


def parameters(ledger: Ledger, jobs: list[str]) -> list[dict[str, Any]]:
    return [dict(job(ledger, each).parameters or {}) for each in jobs]


def test_events_that_come_in_quick_succession_are_one_run(ledger: Ledger, ann: str) -> None:
    """A debounce: nothing begins while they come, then one does, with what the last one says; each tells its place."""
    by = held(debounce={"period": "0.2s"})
    received = [send(ledger, event(ann, by, n)) for n in range(5)]
    assert all(implied == NOTHING for _, implied in received)
    (start,) = starts(ledger)
    assert (start.status, start.events) == (PendingStatus.COLLECTING, 5)
    jobs = wait_until(lambda: begin_due(ledger), every=0.02)
    assert parameters(ledger, jobs) == [{"n": 4}]
    assert job(ledger, jobs[0]).deployment == "debounced"
    places = []
    for (got,), _ in received:
        (effect,) = ledger.events.effects(got.id)
        places.append((effect.what, effect.start_id, effect.start_n))
    assert places == [(EffectKind.HELD, start.id, n) for n in range(1, 6)]
    (begun,) = ledger.pending_runs.get([start.id]).values()
    assert (begun.status, begun.job_id) == (PendingStatus.STARTED, jobs[0])


def test_a_run_is_given_all_its_events_where_that_is_declared(ledger: Ledger, ann: str) -> None:
    """In the order in which they came, over several calls."""
    by = held(debounce={"period": "0.2s", "keep": "all"})
    send(ledger, event(ann, by, 1), event(ann, by, 2))
    send(ledger, event(ann, by, 3))
    jobs = wait_until(lambda: begin_due(ledger), every=0.02)
    assert parameters(ledger, jobs) == [{"events": [{"n": 1}, {"n": 2}, {"n": 3}]}]


def test_a_debounce_waits_no_longer_than_its_longest(ledger: Ledger, ann: str) -> None:
    """However quickly they follow each other."""
    by = held(debounce={"period": "0.3s", "longest": "0.5s"})

    def send_one_more() -> list[str]:
        send(ledger, event(ann, by))
        return begin_due(ledger)

    assert len(wait_until(send_one_more, timeout=5, every=0.05)) == 1


def test_a_batch_begins_with_its_size_and_what_is_left_with_its_time(ledger: Ledger, ann: str) -> None:
    """Of seven in one call three and three at once, and the seventh later: each in one of them."""
    by = held(batch={"size": 3, "longest": "0.2s"})
    _, implied = send(ledger, *[event(ann, by, n) for n in range(7)])
    full = begin(ledger, implied)
    rest = wait_until(lambda: begin_due(ledger), every=0.02)
    given = [[each["n"] for each in one["events"]] for one in parameters(ledger, full + rest)]
    assert given == [[0, 1, 2], [3, 4, 5], [6]]


def test_users_gather_each_for_themselves(ledger: Ledger, ann: str) -> None:
    """Also under one key: what one has sent is not given to the other's run."""
    bob = ledger.users.add("bob").user_id
    by = held(batch={"size": 2, "longest": "60s"})
    _, implied = send(ledger, event(ann, by, 1), event(bob, by, 2))
    assert begin(ledger, implied) == []
    _, implied = send(ledger, event(bob, by, 3))
    (only,) = begin(ledger, implied)
    assert (job(ledger, only).user_id, parameters(ledger, [only])[0]["events"]) == (bob, [{"n": 2}, {"n": 3}])


def test_a_run_is_given_no_more_than_prefect_takes(ledger: Ledger, ann: str) -> None:
    """What is too much for one is two, one after the other, though neither is full by number."""
    by = held(debounce={"period": "0.2s", "keep": "all"})
    text = "x" * (MOST_BYTES // 3)
    _, implied = send(ledger, *[event(ann, by, n, text=text) for n in range(4)])
    jobs = begin(ledger, implied) + wait_until(lambda: begin_due(ledger), every=0.02)
    assert [[each["n"] for each in one["events"]] for one in parameters(ledger, jobs)] == [[0, 1], [2, 3]]


def test_what_begins_one_at_a_time_goes_on_when_that_has_ended(ledger: Ledger, ann: str) -> None:
    """In order, and the reason is on record meanwhile."""
    by = held(concurrency={"limit": 1})
    _, implied = send(ledger, *[event(ann, by, n) for n in range(3)])
    began = begin(ledger, implied)
    reasons = [each.reason for each in starts(ledger, PendingStatus.WAITING)]
    assert [bool(reason) for reason in reasons] == [True, False]  # the one behind it waits for that one
    assert "1 of its key are under way" in str(reasons[0])
    for _ in range(2):
        began += end(ledger, began[-1])
    assert [given["n"] for given in parameters(ledger, began)] == [0, 1, 2]


def test_a_singleton_takes_the_old_ones_place(ledger: Ledger, ann: str) -> None:
    """The old one's cancel is implied; the new one begins when that has ended, the ones between never."""
    by = held(singleton={"when_running": "cancel"})
    (old,) = begin(ledger, send(ledger, event(ann, by, 1))[1])
    send(ledger, event(ann, by, 2), event(ann, by, 3))
    assert cancelled(ledger.pending_runs.begin(SYNC)) == (old,)
    (new,) = begin(ledger, ledger.jobs.cancel(old))
    assert parameters(ledger, [new]) == [{"n": 3}]
    (dropped,) = starts(ledger, PendingStatus.DROPPED)
    assert "a later one of its key" in str(dropped.reason)


def test_two_who_let_begin_at_once_pass_no_limit(ledger: Ledger, ann: str) -> None:
    """Each sees what the other has let begin: of twenty turns at once, on forty starts, three begin."""
    by = held(concurrency={"limit": 3})
    send(ledger, *[event(ann, by, n) for n in range(40)])
    turns = all_at_once([lambda: ledger.pending_runs.begin(SYNC) for _ in range(20)])
    assert sum(len(assigned(turn)) for turn in turns) == 3


def test_what_an_event_is_just_joining_is_left_to_the_next_turn(ledger: Ledger, db: Db, ann: str) -> None:
    """Who releases what is due waits for no sender; and the run is not begun without that event."""
    send(ledger, event(ann, held(debounce={"period": "0.01s"})))
    (start,) = starts(ledger)
    wait_until(lambda: start.due_at is not None and start.due_at < utc_now())
    with ThreadPoolExecutor(1) as pool, db.transaction():
        db.execute("SELECT FROM start FOR UPDATE")
        assert pool.submit(ledger.pending_runs.release).result(timeout=SLOW * 4) == NOTHING
    assert len(begin_due(ledger)) == 1


def test_many_senders_of_one_key_lose_nothing(ledger: Ledger, ann: str) -> None:
    """Calls at once, and who lets begin what is due between them: each event is in one run."""
    by = held(debounce={"period": "0.05s", "keep": "all"})
    given: list[dict[str, Any]] = []

    def send_some(first: int) -> None:
        for n in range(first, first + 10):
            send(ledger, event(ann, by, n))
            given.extend(parameters(ledger, begin_due(ledger)))

    all_at_once([partial(send_some, first) for first in range(0, 80, 10)])
    wait_until(
        lambda: given.extend(parameters(ledger, begin_due(ledger))) or not starts(ledger, PendingStatus.COLLECTING),
        every=0.02,
    )
    assert sorted(each["n"] for one in given for each in one["events"]) == list(range(80))


def test_calls_with_the_same_keys_in_other_orders_do_not_wait_for_each_other(ledger: Ledger, ann: str) -> None:
    """Those that collect are locked in one order, whatever the order of the events."""
    keys = [held(str(n), debounce={"period": "60s"}) for n in range(20)]
    forth = [event(ann, by) for by in keys]
    all_at_once([lambda: send(ledger, *forth), lambda: send(ledger, *forth[::-1])] * 5)
    assert {start.events for start in starts(ledger)} == {10}


def test_the_terms_that_were_declared_last_rule_those_that_wait(ledger: Ledger, ann: str) -> None:
    """Who allows more sees it at the next event."""
    _, implied = send(ledger, *[event(ann, held(concurrency={"limit": 1}), n) for n in range(3)])
    assert len(begin(ledger, implied)) == 1
    _, implied = send(ledger, event(ann, held(concurrency={"limit": 3}), 3))
    assert len(begin(ledger, implied)) == 2


def test_a_person_lets_it_go_on_or_withdraws_it(ledger: Ledger, ann: str) -> None:
    """What gathers goes on at once; of what is dropped nothing begins, and its reason stands there."""
    by = held(debounce={"period": "1h"})
    send(ledger, event(ann, by, 1))
    (first,) = starts(ledger)
    assert parameters(ledger, begin(ledger, ledger.pending_runs.release_now([first.id]))) == [{"n": 1}]
    send(ledger, event(ann, by, 2))
    (second,) = starts(ledger, PendingStatus.COLLECTING)
    assert ledger.pending_runs.drop(SYNC, ids=[first.id, second.id], user_id=None, reason="A mistake.") == [second.id]
    send(ledger, event(ann, by, 3))
    bob = ledger.users.add("bob").user_id
    send(ledger, event(bob, by, 4))
    assert len(ledger.pending_runs.drop(SYNC, ids=None, user_id=ann, reason="Another.")) == 1
    reasons = [(each.status, each.reason) for each in starts(ledger)]
    assert reasons == [
        (PendingStatus.STARTED, None),
        (PendingStatus.DROPPED, "A mistake."),
        (PendingStatus.DROPPED, "Another."),
        (PendingStatus.COLLECTING, None),
    ]


def test_what_is_dropped_while_it_is_let_begin_is_one_or_the_other(ledger: Ledger, ann: str) -> None:
    """Each of forty starts has a job or is dropped, never both, whoever comes first."""
    by = held(concurrency={"limit": 40})
    send(ledger, *[event(ann, by, n) for n in range(40)])
    ids = [each.id for each in starts(ledger)]
    drops = [partial(ledger.pending_runs.drop, SYNC, ids=[id], user_id=None, reason="No.") for id in ids]
    all_at_once([*drops[:20], *[lambda: ledger.pending_runs.begin(SYNC)] * 3, *drops[20:]])
    found = starts(ledger)
    assert {each.status for each in found} <= {PendingStatus.STARTED, PendingStatus.DROPPED}
    assert all((each.job_id is None) == (each.status is PendingStatus.DROPPED) for each in found)


def test_as_many_wait_as_the_plan_lets(ledger: Ledger, ann: str, db: Db) -> None:
    """One more is not started, for that reason, and its event is on record all the same."""
    db.execute("UPDATE plan SET most_queued = 2")
    by = held(throttle={"limit": 1, "period": "1h"})
    _, implied = send(ledger, *[event(ann, by, n) for n in range(3)])
    begin(ledger, implied)
    (got,), _ = send(ledger, event(ann, by, 9))
    (effect,) = ledger.events.effects(got.id)
    assert effect.what == EffectKind.NOT_STARTED
    assert "as the plan allows" in str(effect.reason)


def test_what_nobody_has_let_begin_is_found_again(ledger: Ledger, ann: str) -> None:
    """A gateway that died between its commit and what that implies; another looks at all that wait."""
    send(ledger, event(ann, held(concurrency={"limit": 1})))
    assert ledger.pending_runs.release() == NOTHING
    assert len(begin(ledger, ledger.pending_runs.release(all=True))) == 1


def test_an_event_that_began_a_job_is_not_what_the_job_waits_for(ledger: Ledger, ann: str) -> None:
    """Also where flow control held it: a wait for the same name takes a later one."""
    (got,), implied = send(ledger, event(ann, held(concurrency={"limit": 1}), 1))
    (job_id,) = begin(ledger, implied)
    wait = ledger.waits.for_event(job(ledger, job_id), "next", event=NAME, match=None, test=lambda _: True, until=None)
    assert wait.event_id is None
    (later,), _ = send(ledger, event(ann, held("other", concurrency={"limit": 1}), 2))
    assert ledger.waits.take(wait.id).event_id == later.id != got.id
