"""The ledger's time is its clock's: moved, it finds due what is due then, and nobody waits for it.

Each test opens the same ledger twice: with the machine's time, and with a clock that is ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import timedelta

import pytest
from implying import notified
from ledger_scenes import picture_in_flight, post, submitting_picture
from reconciling import knows_of_nothing, resources_of, turn

from darkroom.clock import utc_now
from darkroom.ledger import WAIT, Ledger, RequestStatus, WaitStatus
from darkroom.orchestrator.run_states import RunState
from darkroom.timing import UNSCALED

Ahead = Callable[[timedelta], Ledger]
MOMENT = timedelta(seconds=1)


@pytest.fixture
def ahead(ledger_url: str) -> Iterator[Ahead]:
    """The ledger as it will be that much later."""
    with ExitStack() as opened:

        def later(by: timedelta) -> Ledger:
            return opened.enter_context(closing(Ledger(ledger_url, clock=lambda: utc_now() + by)))

        yield later


def test_a_wait_is_over_when_the_clock_says_so(ledger: Ledger, ann: str, ahead: Ahead) -> None:
    """For who looks for the runs to wake, for reconcile, for the run that looks, and for the wait itself."""
    picture = picture_in_flight(ledger, ann)
    wait = ledger.waits.sleep(picture.job, "a day", until=utc_now() + timedelta(days=1))
    waits = {picture.job_id: {WAIT + wait.id}}
    assert ledger.runs.on_suspended(picture.run_id, waits)
    early, late = ahead(timedelta(hours=23)), ahead(timedelta(hours=25))
    for now in (ledger, early):
        assert (notified(now.waits.wake_due()), now.runs.with_granted()) == ((), set())
        assert now.runs.poll_work(picture.run_id, waits).ready == ()
        assert now.waits.take(wait.id).status == WaitStatus.OPEN
    assert (notified(late.waits.wake_due()), late.runs.with_granted()) == ((picture.job_id,), {picture.run_id})
    assert late.runs.poll_work(picture.run_id, waits).ready == (picture.job_id,)
    assert late.waits.take(wait.id).status == WaitStatus.TIMED_OUT


def test_a_lease_runs_out_by_the_clock(ledger: Ledger, ann: str, ahead: Ahead) -> None:
    """A run whose process said nothing since is put back, and not a moment before its time."""
    picture = picture_in_flight(ledger, ann)
    ledger.runs.renew(picture.run_id)
    silent_for = UNSCALED.lease + UNSCALED.grace
    for by, recovered in ((silent_for - MOMENT, False), (silent_for + MOMENT, True)):
        prefect = knows_of_nothing()
        running = RunState(type="RUNNING", name="Running", timestamp=utc_now(), deployed=True)
        prefect.run_states.return_value = {picture.flow_run_id: running}
        turn(resources_of(ahead(by), orchestrator=prefect))
        assert prefect.recover.called is recovered


def test_a_breaker_lets_a_probe_through_by_the_clock(ledger: Ledger, ann: str, ahead: Ahead) -> None:
    """One row goes ahead, and another one only after the patience with its answer."""
    for _ in range(3):
        post(ledger, ann)
    ledger.accounts.out("fal", probe=False)
    assert ledger.grants.grant() == []
    soon = ahead(UNSCALED.first_probe + MOMENT)
    assert len(soon.grants.grant()) == 1
    assert soon.grants.grant() == []
    later = ahead(UNSCALED.first_probe + UNSCALED.probe_patience + 2 * MOMENT)
    assert len(later.grants.grant()) == 1


def test_halved_slots_are_given_back_by_the_clock(ledger: Ledger, ahead: Ahead) -> None:
    """A 429 halves them for a while."""
    for n in range(12):
        post(ledger, ledger.users.add(f"user {n}").user_id)
    ledger.accounts.slow_down("fal")
    assert len(ledger.grants.grant()) == 5
    assert ahead(UNSCALED.halved_for - MOMENT).grants.grant() == []
    assert len(ahead(UNSCALED.halved_for + MOMENT).grants.grant()) == 5


def test_a_submit_is_lost_by_the_clock(ledger: Ledger, ann: str, ahead: Ahead) -> None:
    """Whoever sent it would have said so by then."""
    picture = submitting_picture(ledger, ann)
    for by, status in (
        (UNSCALED.submit_limit - MOMENT, RequestStatus.SUBMITTING),
        (UNSCALED.submit_limit + MOMENT, RequestStatus.UNKNOWN),
    ):
        turn(resources_of(ahead(by)))
        assert picture.row.status is status


def test_limits_are_those_the_ledger_was_opened_with(ledger_url: str, ledger: Ledger, ann: str) -> None:
    """A tenth of the lease, a tenth of the pause before a probe."""
    tenth = UNSCALED.scaled(0.1)
    with closing(Ledger(ledger_url, timing=tenth)) as scaled:
        picture = picture_in_flight(scaled, ann)
        before = utc_now()
        scaled.runs.renew(picture.run_id)
        assert picture.run.alive_until is not None
        assert before + tenth.lease <= picture.run.alive_until <= utc_now() + tenth.lease
        scaled.accounts.out("fal", probe=False)
        account = scaled.users.account("fal")
        assert account.probe_at is not None and account.down_since is not None
        assert account.probe_at - account.down_since == tenth.first_probe
