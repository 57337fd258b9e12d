"""A provider that is out, or wants less: jobs stay rows, use nothing up, and go on by themselves behind one probe.

The ledger is real; fal is a function behind the client's own transport.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from ledger_databases import Db
from ledger_scenes import DEV, SUCCESS, post
from reconciling import resources_of, turn

from darkroom import Job
from darkroom.blocks.notifier import Notifier
from darkroom.clock import utc_now
from darkroom.engine import store as storing
from darkroom.engine import submit as sending
from darkroom.engine import tasks
from darkroom.engine.paid_calls import PaidCalls
from darkroom.engine.resources import Resources
from darkroom.engine.signals import RetryLater
from darkroom.errors import DarkroomError, Park
from darkroom.ledger import NOTHING, Granted, Implied, Ledger, Outcome, Request, RequestStatus
from darkroom.media.store import MediaStore, make_store_block
from darkroom.orchestrator import Orchestrator
from darkroom.orchestrator.api import PrefectApi
from darkroom.orchestrator.dispatch import Dispatcher
from darkroom.providers.base import Accepted
from darkroom.providers.fal import Fal
from darkroom.providers.fal.provider import FalProvider
from darkroom.providers.registry import Providers
from darkroom.settings import Settings
from darkroom.tls import tls_context

NOWHERE = "http://127.0.0.1:9"


def nginx() -> httpx.Response:
    return httpx.Response(503, text="<html><center>nginx</center></html>")


def too_many() -> httpx.Response:
    return httpx.Response(429, json={"detail": "slower"}, headers={"Retry-After": "3"})


def broken() -> httpx.Response:
    return httpx.Response(500, json={"detail": "internal"}, headers={"x-fal-request-id": "x"})


def locked() -> httpx.Response:
    return httpx.Response(403, json={"detail": "User is locked. Reason: Exhausted balance."})


def taken() -> httpx.Response:
    return httpx.Response(200, json={"request_id": f"019e1951-0000-7000-8000-{next(_numbers):012d}"})


_numbers = iter(range(1_000_000))


class Provider:
    """Answers every submit as it is told to."""

    def __init__(self) -> None:
        self.answer: Callable[[], httpx.Response] = taken
        self.submits = 0

    def __call__(self, _: httpx.Request) -> httpx.Response:
        self.submits += 1
        return self.answer()


class NoGrant(Dispatcher):
    """Slots are handed out when the test says so."""

    def hand_out(self, **_: Any) -> Implied:
        return NOTHING


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def resources(ledger: Ledger, provider: Provider) -> Iterator[Resources]:
    with ExitStack() as opened:
        orchestrator = opened.enter_context(Orchestrator(PrefectApi(NOWHERE)))
        fal = opened.enter_context(Fal("key", transport=httpx.MockTransport(provider)))
        yield Resources(
            settings=Settings(),
            ledger=ledger,
            orchestrator=orchestrator,
            dispatcher=NoGrant(ledger, orchestrator),
            providers=Providers({"fal": lambda: FalProvider(fal)}),
            files=opened.enter_context(httpx.Client(verify=tls_context())),
            store=MediaStore(make_store_block("/nowhere")),
        )


@pytest.fixture
def ann(ledger: Ledger) -> str:
    ledger.users.set_plan("studio", in_flight=10, weight=Decimal(1))
    return ledger.users.add("ann", plan="studio").user_id


def submit(resources: Resources, granted: Granted) -> Request:
    row = resources.ledger.requests.get(granted.ref)
    with suppress(DarkroomError):
        sending.submit(resources, row)
    return resources.ledger.requests.get(row.ref)


def time_passes(db: Db, seconds: float = 60) -> None:
    """For whatever the account and the queue are waiting for."""
    by = timedelta(seconds=seconds)
    db.execute("UPDATE account SET probe_at = probe_at - %(by)s, slowed_at = slowed_at - %(by)s", {"by": by})
    db.execute("UPDATE request SET not_before = not_before - %(by)s", {"by": by})


def test_an_outage_stops_the_grants_and_uses_up_no_attempt(
    resources: Resources, provider: Provider, ledger: Ledger, ann: str
) -> None:
    """What was refused is back in the queue as it was, and nobody else is sent into the same outage."""
    post(ledger, ann)
    (granted,) = ledger.grants.grant()
    post(ledger, ann)
    provider.answer = nginx
    row = submit(resources, granted)
    assert (row.status, row.attempt, row.not_before) == (RequestStatus.QUEUED, 1, None)
    assert ledger.grants.grant() == []
    assert ledger.users.account().down_since is not None


def test_one_probe_goes_ahead_and_its_answer_lets_all_go_on(
    resources: Resources, provider: Provider, ledger: Ledger, db: Db, ann: str
) -> None:
    """However many wait and however many slots are free."""
    for _ in range(5):
        post(ledger, ann)
    granted = ledger.grants.grant()
    provider.answer = nginx
    for each in granted:
        submit(resources, each)
    time_passes(db)
    (probe,) = ledger.grants.grant()
    assert ledger.grants.grant() == [], "one at a time"
    provider.answer = taken
    assert submit(resources, probe).status is RequestStatus.IN_FLIGHT
    assert ledger.users.account().down_since is None
    assert len(ledger.grants.grant()) == 4


def test_a_probe_that_fails_is_followed_by_a_later_one(
    resources: Resources, provider: Provider, ledger: Ledger, db: Db, ann: str
) -> None:
    """Twice as long each time; since when it is down stays as it was."""
    post(ledger, ann)
    provider.answer = nginx
    pauses, since = [], set()
    for _ in range(4):
        (granted,) = ledger.grants.grant()
        submit(resources, granted)
        account = ledger.users.account()
        assert account.probe_at is not None
        pauses.append(round((account.probe_at - utc_now()).total_seconds()))
        since.add(account.down_since)
        time_passes(db)
    assert (pauses, len(since)) == ([1, 2, 4, 8], 1)


def test_a_probe_whose_process_died_is_followed_by_another(
    resources: Resources, provider: Provider, ledger: Ledger, db: Db, ann: str
) -> None:
    """It was granted and never heard of again: it keeps its slot, and the account its chance."""
    post(ledger, ann)
    provider.answer = nginx
    submit(resources, ledger.grants.grant()[0])
    post(ledger, ann)
    time_passes(db)
    (lost,) = ledger.grants.grant()
    assert ledger.grants.grant() == []
    time_passes(db)
    (following,) = ledger.grants.grant()
    assert following.ref != lost.ref


@pytest.mark.parametrize("answer", [too_many, broken], ids=["429", "500 of its own"])
def test_any_answer_of_the_provider_itself_closes_the_breaker(
    resources: Resources, provider: Provider, ledger: Ledger, db: Db, ann: str, answer: Callable[[], httpx.Response]
) -> None:
    """It may refuse this one, but it is there."""
    post(ledger, ann)
    provider.answer = nginx
    submit(resources, ledger.grants.grant()[0])
    time_passes(db)
    (probe,) = ledger.grants.grant()
    provider.answer = answer
    submit(resources, probe)
    assert ledger.users.account().down_since is None


def test_a_429_halves_the_slots_and_they_come_back(
    resources: Resources, provider: Provider, ledger: Ledger, db: Db, ann: str
) -> None:
    """Ten become five, however many of one burst were refused; a while later it is ten again. No job fails by it."""
    for _ in range(25):
        post(ledger, ann)
    granted = ledger.grants.grant()
    assert len(granted) == 10
    provider.answer = too_many
    rows = [submit(resources, each) for each in granted]
    assert {row.status for row in rows} == {RequestStatus.QUEUED}
    assert all(row.not_before is not None for row in rows), "never before the Retry-After"
    assert len(ledger.grants.grant()) == 5
    time_passes(db)
    assert len(ledger.grants.grant()) == 5
    assert len(ledger.requests.holding_slots()) == 10


def test_a_provider_that_refuses_one_request_for_ever_ends_it(
    resources: Resources, provider: Provider, ledger: Ledger, db: Db, ann: str
) -> None:
    """With errors of its own, not with 429s: every accepted job ends."""
    job = post(ledger, ann)
    provider.answer = broken
    while granted := ledger.grants.grant():
        submit(resources, granted[0])
        time_passes(db, 3600)
    (row,) = ledger.requests.of_job(job.id)
    assert row.status is RequestStatus.FAILED
    assert provider.submits == sending.MOST_REFUSALS + 1


def test_429s_are_waited_for_however_long(
    resources: Resources, provider: Provider, ledger: Ledger, db: Db, ann: str
) -> None:
    """They say something about us, not about the request."""
    job = post(ledger, ann)
    provider.answer = too_many
    for _ in range(3 * sending.MOST_REFUSALS):
        submit(resources, ledger.grants.grant()[0])
        time_passes(db, 3600)
    provider.answer = taken
    submit(resources, ledger.grants.grant()[0])
    assert ledger.requests.of_job(job.id)[0].status is RequestStatus.IN_FLIGHT


def test_what_an_outage_keeps_waiting_says_so(
    resources: Resources, provider: Provider, ledger: Ledger, ann: str
) -> None:
    """One sentence: since when, and when somebody looks again."""
    job = post(ledger, ann)
    provider.answer = nginx
    submit(resources, ledger.grants.grant()[0])
    down_since = ledger.users.account().down_since
    assert down_since is not None
    said = ledger.waiting_for(job, ledger.requests.of_job(job.id))
    assert said == f"fal is down since {down_since.astimezone(UTC):%H:%M} UTC, next probe in 1 s"


NO_ROOM = """
CREATE SEQUENCE tries;
CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('tries') < 3 THEN RAISE EXCEPTION 'No space left on device' USING ERRCODE = 'disk_full'; END IF;
    RETURN NEW;
END $$;
"""


@pytest.mark.parametrize(("answer", "status"), [("taken", RequestStatus.IN_FLIGHT), ("broken", RequestStatus.QUEUED)])
def test_what_the_provider_answered_is_recorded_when_the_ledger_has_room_again(
    resources: Resources, provider: Provider, ledger: Ledger, db: Db, ann: str, answer: str, status: RequestStatus
) -> None:
    """Else nobody knew of the call, and its slot were held until it is given up. It is sent once."""
    job = post(ledger, ann)
    provider.answer = {"taken": taken, "broken": broken}[answer]
    (granted,) = ledger.grants.grant()
    db.execute(NO_ROOM)
    db.execute(
        "CREATE TRIGGER no_room BEFORE UPDATE ON request FOR EACH ROW "
        "WHEN (OLD.status = 'submitting') EXECUTE FUNCTION no_room()"
    )

    submit(resources, granted)

    assert [row.status for row in ledger.requests.of_job(job.id)] == [status]
    assert provider.submits == 1


class Mistaken(FalProvider):
    """Fails with the provider's answer in its hands."""

    def submit(self, row: Request, input: Mapping[str, Any], *, webhook_url: str | None) -> Accepted | Outcome:
        super().submit(row, input, webhook_url=webhook_url)
        raise KeyError("answer")


@pytest.mark.parametrize(("immediate", "status"), [(True, RequestStatus.FAILED), (False, RequestStatus.UNKNOWN)])
def test_a_mistake_of_our_own_does_not_pay_twice(
    resources: Resources, provider: Provider, ledger: Ledger, ann: str, immediate: bool, status: RequestStatus
) -> None:
    """Whose answer is its outcome is asked once, and counts at its estimate; another one's webhook tells."""
    job = post(ledger, ann)
    (granted,) = ledger.grants.grant()
    with Fal("key", transport=httpx.MockTransport(provider)) as fal:
        mistaken = Mistaken(fal)
        mistaken.immediate = immediate
        row = submit(replace(resources, providers=Providers({"fal": lambda: mistaken})), granted)
    assert (row.status, provider.submits) == (status, 1)
    assert (row.error or {}).get("class") == ("permanent" if immediate else None)
    assert row.cost_usd == (row.estimate_usd if immediate else None)
    assert [each.attempt for each in ledger.requests.of_job(job.id)] == [1]


def test_an_exhausted_balance_stops_the_account_until_it_is_topped_up(
    resources: Resources, provider: Provider, ledger: Ledger, db: Db, ann: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No job fails of it: all wait and say why, the operator is told once, and a probe finds the money there again."""
    told: list[str] = []
    monkeypatch.setattr(Notifier, "load_default", lambda: Notifier())
    monkeypatch.setattr(
        Notifier, "send", lambda self, subject, text, *, key, to=None: told.append(f"{subject}: {text}")
    )
    jobs = [post(ledger, ann) for _ in range(3)]
    provider.answer = locked
    for granted in ledger.grants.grant():
        submit(resources, granted)
    for _ in range(2):
        turn(resources_of(ledger))
        time_passes(db, 3600)
        (probe,) = ledger.grants.grant()
        submit(resources, probe)

    rows = [row for job in jobs for row in ledger.requests.of_job(job.id)]
    assert {row.status for row in rows} == {RequestStatus.QUEUED}
    assert "Exhausted balance" in (ledger.waiting_for(jobs[0], rows[:1]) or "")
    assert len(told) == 1 and "top up" in told[0]

    provider.answer = taken
    time_passes(db, 3600)
    submit(resources, ledger.grants.grant()[0])
    assert ledger.users.account().down_since is None
    assert len(ledger.grants.grant()) == 2


@pytest.mark.parametrize("as_tasks", [False, True], ids=["carried", "alone"])
def test_a_paid_file_is_waited_for_while_its_host_is_out(
    resources: Resources, ledger: Ledger, ann: str, monkeypatch: pytest.MonkeyPatch, as_tasks: bool
) -> None:
    """Far beyond the tries of a damaged one; after an hour and a half the job can still be replayed."""
    job = post(ledger, ann)
    ledger.requests.settle(ledger.grants.grant()[0].ref, SUCCESS, via="poll")
    (record,) = ledger.jobs.take_up([job.id])

    def out(*_: object, **__: object) -> object:
        raise Park("the file host answered HTTP 503", code="file_unreachable")

    monkeypatch.setattr(tasks, "paced", lambda *_: out)
    monkeypatch.setattr(storing, "store", out)
    for failures in (0, 10, 100):
        called = Job(record, resources, as_tasks=as_tasks, failures=failures)
        with pytest.raises(RetryLater) as later:
            called.store(called.infer(DEV, {"prompt": "a fox"}, step="generate"))
        assert later.value.seconds <= 60
    called = Job(record, resources, as_tasks=as_tasks, failures=len(resources.timing.file_out_again))
    with pytest.raises(Park):
        called.store(called.infer(DEV, {"prompt": "a fox"}, step="generate"))


def test_a_process_that_is_ending_sends_nothing_more(
    resources: Resources, provider: Provider, ledger: Ledger, ann: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row keeps its slot, for the process that goes on with the run."""
    monkeypatch.setattr(sending, "PAID_CALLS", PaidCalls())
    post(ledger, ann)
    (granted,) = ledger.grants.grant()
    assert not sending.PAID_CALLS.begin_no_more()
    row = submit(resources, granted)
    assert (row.status, row.attempt, provider.submits) == (RequestStatus.GRANTED, 1, 0)
    monkeypatch.setattr(sending, "PAID_CALLS", PaidCalls())
    assert submit(resources, granted).status is RequestStatus.IN_FLIGHT
