"""A provider that has what was paid for and does not answer: what it has is waited for, and keeps nothing else waiting.

The ledger is real; fal is a function behind the client's own transport.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import httpx
import pytest
from ledger_databases import Db
from ledger_scenes import DEV, OUTPUT, Picture, picture_in_flight, submitting_picture
from reconciling import resources_of, turn

from darkroom import Job
from darkroom.engine.resources import Resources
from darkroom.engine.signals import RetryLater
from darkroom.errors import Park
from darkroom.flows.reconcile import MOST_UNANSWERED
from darkroom.ledger import JobStatus, Ledger, Outcome, RequestStatus, Transition
from darkroom.providers.fal import Fal
from darkroom.providers.fal.provider import FalProvider
from darkroom.providers.registry import Providers
from darkroom.timing import UNSCALED

FILM = "fal-ai/kling-video/v2.5-turbo/pro/image-to-video"
TRIES = 2  # of one call, by the client
ANNOUNCED = Outcome(transition=Transition.SUCCEED)  # without its payload


def out(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectTimeout("nothing answers", request=request)


def results_out(request: httpx.Request) -> httpx.Response:
    """The queue is there, what stands behind it is not."""
    if request.url.path.endswith("/status"):
        return httpx.Response(200, json={"status": "COMPLETED"})
    return httpx.Response(503, text="<html><center>nginx</center></html>")


def finished(request: httpx.Request) -> httpx.Response:
    if request.url.path.endswith("/status"):
        return httpx.Response(200, json={"status": "COMPLETED"})
    return httpx.Response(200, json=OUTPUT)


class Provider:
    """Answers as it is told to. `asked`: how often, by request id."""

    def __init__(self) -> None:
        self.answer: Callable[[httpx.Request], httpx.Response] = finished
        self.asked: Counter[str] = Counter()
        self.cancelled: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request_id = request.url.path.partition("/requests/")[2].partition("/")[0]
        self.asked[request_id] += 1
        if request.method == "PUT":
            self.cancelled.append(request_id)
            return httpx.Response(202, json={"status": "CANCELLATION_REQUESTED"})
        return self.answer(request)


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def resources(ledger: Ledger, provider: Provider) -> Iterator[Resources]:
    """Nobody tells us here how a request ends: each is asked for."""
    with Fal("key", transport=httpx.MockTransport(provider)) as fal:
        yield resources_of(ledger, providers=Providers({"fal": lambda: FalProvider(fal)}))


def in_flight(ledger: Ledger, count: int) -> list[Picture]:
    ledger.users.set_account("fal", slots=count)
    users = [ledger.users.add(f"user-{n}", plan="studio").user_id for n in range(count)]
    pictures = [submitting_picture(ledger, user_id) for user_id in users]
    for picture in pictures:
        picture.accept(str(uuid4()))
    return pictures


def overdue(db: Db, by: timedelta) -> None:
    db.execute("UPDATE request SET deadline_at = now() - %(by)s::interval", {"by": by})


def lost_submits(db: Db, refs: list[str]) -> None:
    """Their processes died over the POST, a while ago."""
    longer_ago = "UPDATE request SET submitted_at = submitted_at - %(by)s::interval WHERE ref = ANY(%(refs)s)"
    db.execute(longer_ago, {"by": 2 * UNSCALED.submit_limit, "refs": refs})


def test_a_provider_that_is_out_costs_a_turn_three_calls(
    resources: Resources, provider: Provider, ledger: Ledger, db: Db
) -> None:
    """Of up to 15 s each. Whatever asks nobody is done beside; the next turn asks again."""
    pictures = in_flight(ledger, 12)
    ledger.users.set_account("fal", slots=24)
    lost = [submitting_picture(ledger, ledger.users.add(f"lost-{n}", plan="studio").user_id) for n in range(12)]
    lost_submits(db, [picture.ref for picture in lost])
    for picture in pictures[:4]:  # nobody will collect these, so their costs are asked for
        picture.settle(ANNOUNCED)
        ledger.jobs.finish(picture.job_id, JobStatus.FAILED)
    provider.answer = out
    turn(resources)
    assert provider.asked.total() == MOST_UNANSWERED * TRIES
    assert {picture.row.status for picture in lost} == {RequestStatus.UNKNOWN}
    provider.answer = finished
    turn(resources)
    assert {picture.row.status for picture in pictures} == {RequestStatus.SUCCEEDED}
    assert all(picture.row.output for picture in pictures[:4])


def test_what_nobody_collects_is_on_record_though_its_provider_tells_no_count(
    resources: Resources, ledger: Ledger
) -> None:
    """A film whose seconds only the provider counts, and does not: it has cost those that were asked for."""
    ann = ledger.users.add("ann", plan="studio").user_id
    film = picture_in_flight(ledger, ann, endpoint=FILM, input={"prompt": "a fox", "duration": "10"})
    film.settle(ANNOUNCED)
    ledger.jobs.finish(film.job_id, JobStatus.CANCELLED)
    turn(resources)
    assert (film.row.output, film.row.cost_usd) == (OUTPUT, Decimal("0.7"))
    assert ledger.budgets.of(ann)[0].spent_usd == Decimal("0.7")


def test_lost_submits_are_looked_for_no_longer_than_one_call_lasts_where_nothing_answers(
    resources: Resources, provider: Provider, ledger: Ledger, db: Db
) -> None:
    """Of however many endpoints; the next turn begins with any of them."""
    lost = [submitting_picture(ledger, ledger.users.add(f"lost-{n}", plan="studio").user_id) for n in range(5)]
    for n, picture in enumerate(lost):
        ledger.requests.answer_lost(picture.ref)
        db.execute("UPDATE request SET endpoint = %s WHERE ref = %s", [f"fal-ai/unheard/of-{n}", picture.ref])
    lost_submits(db, [picture.ref for picture in lost])
    provider.answer = out
    assert resources.providers.of("fal").find_lost(ledger, ledger.requests.holding_slots()) == []
    assert provider.asked.total() == TRIES


def test_none_waits_for_ever_behind_those_that_are_never_answered(
    resources: Resources, provider: Provider, ledger: Ledger
) -> None:
    pictures = in_flight(ledger, 12)
    never = {picture.row.request_id for picture in pictures[:MOST_UNANSWERED]}

    def some(request: httpx.Request) -> httpx.Response:
        return (out if any(str(id) in request.url.path for id in never) else finished)(request)

    provider.answer = some
    turns = 0
    while any(picture.row.status is RequestStatus.IN_FLIGHT for picture in pictures[MOST_UNANSWERED:]):
        assert (turns := turns + 1) < 100
        turn(resources)


def test_what_is_overdue_is_not_given_up_while_nobody_can_tell_how_it_ended(
    resources: Resources, provider: Provider, ledger: Ledger, db: Db
) -> None:
    """It was paid; given up, it would be paid again."""
    (picture,) = in_flight(ledger, 1)
    overdue(db, timedelta(minutes=1))
    for provider.answer in (results_out, out):
        turn(resources)
        assert (picture.row.status, provider.cancelled) == (RequestStatus.IN_FLIGHT, [])
    provider.answer = finished
    turn(resources)
    assert (picture.row.status, picture.row.output) == (RequestStatus.SUCCEEDED, OUTPUT)


def test_what_is_overdue_is_given_up_when_its_result_would_be_gone(
    resources: Resources, provider: Provider, ledger: Ledger, db: Db
) -> None:
    (picture,) = in_flight(ledger, 1)
    overdue(db, UNSCALED.result_kept + timedelta(minutes=1))
    provider.answer = results_out
    turn(resources)
    assert (picture.row.status, len(provider.cancelled)) == (RequestStatus.EXPIRED, 1)


@pytest.mark.parametrize("as_tasks", [False, True], ids=["carried", "alone"])
def test_a_result_that_was_announced_without_its_payload_is_waited_for(
    resources: Resources, provider: Provider, ledger: Ledger, as_tasks: bool
) -> None:
    """As a file is, whose host is out; after an hour and a half the job can still be replayed."""
    (picture,) = in_flight(ledger, 1)
    picture.settle(ANNOUNCED)
    (record,) = ledger.jobs.take_up([picture.job_id])

    def collect(failures: int) -> object:
        return Job(record, resources, as_tasks=as_tasks, failures=failures).infer(
            DEV, {"prompt": "a fox"}, step="generate"
        )

    for provider.answer in (out, results_out):
        for failures in (0, 10, 100):
            with pytest.raises(RetryLater) as later:
                collect(failures)
            assert later.value.seconds <= 60
        with pytest.raises(Park, match="its result cannot be had"):
            collect(len(UNSCALED.file_out_again))
    provider.answer = finished
    collect(0)
    assert picture.row.output == OUTPUT
