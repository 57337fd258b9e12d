"""Webhooks at the gateway's door, sent by the simulator: the genuine settle their row, the others change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import psycopg
import pytest
from pydantic import SecretStr
from running_gateway import GivenBlocks, RecordingPrefect, RunningGateway, running_gateway
from simulated_fal import SimulatedFal
from support import wait_until

from darkroom.deployments.gateway.recurrence import MOST_IN_WINDOW
from darkroom.deployments.gateway.schemas.jobs import RequestDocument
from darkroom.deployments.timeline import timeline
from darkroom.ledger import Ledger, Request, RequestSpec, RequestStatus
from darkroom.orchestrator import Orchestrator
from darkroom.providers.fal import Fal, Submitted
from darkroom.settings import Settings

ENDPOINT = "fal-ai/flux/dev"
UNKNOWN_ID = "019aa1f0-0000-7000-8000-000000000000"
IN_FLIGHT = RequestStatus.IN_FLIGHT
SUCCEEDED = RequestStatus.SUCCEEDED
NO_ORCHESTRATOR = cast(Orchestrator, None)  # the run has no flow run of which it would be asked


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A picture on its way: its row is submitting, its run has a flow run at Prefect."""

    ledger: Ledger
    fal: Fal
    gateway: RunningGateway
    prefect: RecordingPrefect
    simulator: SimulatedFal
    ref: str
    prompt: str

    @property
    def row(self) -> Request:
        return self.ledger.requests.get(self.ref)

    @property
    def webhook_url(self) -> str:
        return self.gateway.webhook_url(self.row.token)

    def submit(self) -> str:
        """At the provider, where it is held; its id on record."""
        taken = self.sent()
        self.accepted(taken)
        return taken.request_id

    def post(self, *, webhook_url: str | None = None) -> str:
        return self.sent(webhook_url=webhook_url).request_id

    def sent(self, *, webhook_url: str | None = None) -> Submitted:
        url, limit = webhook_url or self.webhook_url, timedelta(minutes=5)
        return self.fal.submit(ENDPOINT, {"prompt": self.prompt}, webhook_url=url, start_timeout=limit)

    def accepted(self, taken: Submitted) -> None:
        self.ledger.requests.accepted(self.ref, request_id=taken.request_id, first_try=taken.gateway_request_id)

    def answers(self, number: int) -> list[int]:
        """What the gateway answered to so many webhooks, in their order."""

        def sent() -> list[int]:
            (entry,) = self.simulator.requests(self.prompt)
            return [webhook["status_code"] for webhook in entry["webhooks"]]

        return wait_until(lambda: len(sent()) >= number and sent(), what="the webhooks")[:number]

    def send(self, request_id: str, /, *, token: str | None = None, **order: Any) -> int | None:
        """A webhook by hand, signed as fal does."""
        body = {"request_id": request_id, "gateway_request_id": request_id, "status": "OK", "payload": {"images": []}}
        return self.simulator.send_webhook(url=self.gateway.webhook_url(token), body=body, **order)


@pytest.fixture
def account() -> str | None:
    """The configured account; None where a test wants it learned."""
    return "sim-user"


@pytest.fixture
def scene(
    ledger: Ledger,
    ledger_url: str,
    simulator: SimulatedFal,
    prefect_calls: RecordingPrefect,
    tmp_path: Path,
    account: str | None,
) -> Iterator[Scene]:
    ref = submitting(ledger)
    settings = Settings(
        ledger_url=ledger_url,
        home=tmp_path,
        signing_key=SecretStr("a long random text"),
        fal_user_id=account,
        submit_at_grant=False,  # the tests do it in a run's place
    )
    with Fal("sim:key") as fal, running_gateway(settings, blocks=GivenBlocks(client=fal)) as gateway:
        yield Scene(
            ledger=ledger,
            fal=fal,
            gateway=gateway,
            prefect=prefect_calls,
            simulator=simulator,
            ref=ref,
            prompt=f"a fox for {ref}",
        )


def submitting(ledger: Ledger) -> str:
    """A row whose POST is about to leave."""
    user = ledger.users.add("ann")
    first = RequestSpec(step="generate", endpoint=ENDPOINT, input={"prompt": "a fox"}, estimate_usd=Decimal("0.025"))
    ledger.jobs.post(user_id=user.user_id, kind="generate-image", parameters={"prompt": "a fox"}, first=first)
    (granted,) = ledger.grants.grant()
    ledger.runs.assign(granted.job_id)
    ledger.requests.begin_submit(granted.ref, deadline=timedelta(hours=1))
    return granted.ref


@dataclass(frozen=True, kw_only=True)
class Case:
    answers: list[int]
    status: RequestStatus
    verdicts: list[str] = field(default_factory=list)
    faults: dict[str, Any] = field(default_factory=dict)


CASES = {
    "genuine": Case(answers=[200], status=SUCCEEDED, verdicts=["settled"]),
    "twice": Case(faults={"webhook": "twice"}, answers=[200, 200], status=SUCCEEDED, verdicts=["settled", "duplicate"]),
    "of a success that does not fit into it": Case(
        faults={"webhook": "null_payload"}, answers=[200], status=SUCCEEDED, verdicts=["settled"]
    ),
    "of a failure": Case(
        faults={"result": "422_content_policy"}, answers=[200], status=RequestStatus.FAILED, verdicts=["settled"]
    ),
    "forged": Case(faults={"webhook": "forged"}, answers=[401], status=IN_FLIGHT),
    "six minutes old": Case(faults={"webhook": "old"}, answers=[401], status=IN_FLIGHT),
    "for another account": Case(faults={"webhook": "other_account"}, answers=[403], status=IN_FLIGHT),
    "with a foreign token": Case(faults={"webhook": "foreign_token"}, answers=[403], status=IN_FLIGHT),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_webhook_settles_its_row_or_changes_nothing(scene: Scene, ledger_url: str, case: Case) -> None:
    """2xx and on record with its verdict, or an answer on which fal tries again, with the row as it was."""
    scene.simulator.rule(match=scene.prompt, hold=True, **case.faults)
    request_id = scene.submit()
    scene.simulator.release(request_id)

    assert scene.answers(len(case.answers)) == case.answers
    assert scene.row.status is case.status
    assert deliveries(ledger_url) == [(request_id, scene.ref, verdict) for verdict in case.verdicts]


def test_a_success_brings_its_output_and_cost(scene: Scene) -> None:
    """What the webhook carries is kept, so nothing has to be fetched."""
    scene.simulator.rule(match=scene.prompt, hold=True)
    scene.simulator.release(scene.submit())

    assert scene.answers(1) == [200]
    assert scene.row.output is not None
    assert scene.row.output["images"][0]["url"].startswith("https://")
    assert scene.row.cost_usd == Decimal("0.025")
    assert scene.row.delivered_via == "webhook"


def test_a_success_without_payload_is_left_to_be_fetched(scene: Scene) -> None:
    """It is a success, and billed: no output means to fetch it, not that there is none."""
    scene.simulator.rule(match=scene.prompt, hold=True, webhook="null_payload")
    scene.simulator.release(scene.submit())

    assert scene.answers(1) == [200]
    assert (scene.row.status, scene.row.output, scene.row.error) == (SUCCEEDED, None, None)


def test_a_failure_is_told_in_the_providers_words(scene: Scene) -> None:
    """By code and message, without the prompt that fal echoes."""
    scene.simulator.rule(match=scene.prompt, hold=True, result="422_content_policy")
    scene.simulator.release(scene.submit())

    assert scene.answers(1) == [200]
    error = scene.row.error
    assert error is not None
    assert (error["code"], error["class"], error["retryable"]) == ("content_policy_violation", "permanent", False)
    assert scene.prompt not in str(error)


def test_a_genuine_one_after_a_forged_one_settles(scene: Scene) -> None:
    """A stranger cannot use up the one delivery."""
    scene.simulator.rule(match=scene.prompt, hold=True, webhook="forged", webhook_then_good=True)
    scene.simulator.release(scene.submit())

    wait_until(lambda: scene.row.status is SUCCEEDED, what="the genuine one")


def test_one_that_overtakes_the_submit_answer_is_found_by_its_token(scene: Scene, ledger_url: str) -> None:
    """The row adopts the id that the provider confirms; the late answer only fills in what is missing."""
    scene.simulator.rule(match=scene.prompt, webhook="early")
    request_id = scene.post()

    assert scene.answers(1) == [200]
    assert (scene.row.status, scene.row.request_id) == (SUCCEEDED, request_id)
    scene.ledger.requests.accepted(scene.ref, request_id=request_id)
    assert (scene.row.status, scene.row.request_id) == (SUCCEEDED, request_id)
    assert deliveries(ledger_url) == [(request_id, scene.ref, "settled")]


@pytest.mark.parametrize("is_early", [False, True], ids=["after the submit's answer", "before it"])
@pytest.mark.parametrize(("retries", "retried"), [(0, False), (2, True)])
def test_what_fal_has_tried_again_by_itself_is_on_record(
    scene: Scene, retries: int, retried: bool, is_early: bool
) -> None:
    """As its ids of the first try and of the last tell, whichever of them comes first; the request stays one."""
    faults: dict[str, Any] = {"webhook": "early"} if is_early else {"hold": True}
    scene.simulator.rule(match=scene.prompt, latency=0, retries=retries, **faults)
    taken = scene.sent()
    if is_early:
        assert scene.answers(1) == [200]
    scene.accepted(taken)
    if not is_early:
        scene.simulator.release(taken.request_id)
        assert scene.answers(1) == [200]

    assert (scene.row.status, scene.row.request_id) == (SUCCEEDED, taken.request_id)
    assert RequestDocument.model_validate(scene.row).retried is retried
    assert scene.row.cost_usd == Decimal("0.025")
    told = [step.name for step in timeline(scene.ledger, NO_ORCHESTRATOR, scene.ledger.jobs.get(scene.row.job_id))]
    assert ("tried again" in told) is retried


def test_a_second_job_for_one_row_is_a_duplicate_with_its_cost(scene: Scene, ledger_url: str) -> None:
    """It was paid, so it is on record; the row keeps the first."""
    scene.simulator.rule(match=scene.prompt, hold=True, times=1)
    scene.submit()
    second = scene.post()

    wait_until(lambda: deliveries(ledger_url), what="the second")
    assert deliveries(ledger_url) == [(second, scene.ref, "duplicate")]
    assert scene.row.status is IN_FLIGHT
    assert scene.ledger.jobs.cost(scene.row.job_id) == Decimal("0.025")


def test_an_id_nobody_knows_is_not_acknowledged(scene: Scene, ledger_url: str) -> None:
    """404: with a 2xx fal would not send it again, and it may only be early."""
    assert scene.send(UNKNOWN_ID) == 404
    assert scene.send(UNKNOWN_ID, token="0" * 32) == 404
    assert scene.send(UNKNOWN_ID, token="%C3%A9%00") == 404
    assert deliveries(ledger_url) == []


def test_a_token_alone_opens_nothing(scene: Scene, ledger_url: str) -> None:
    """A webhook signed for an id that is not this account's is refused, though the token is right."""
    assert scene.send(UNKNOWN_ID, token=scene.row.token) == 404
    assert (scene.row.status, scene.row.request_id) == (RequestStatus.SUBMITTING, None)
    assert deliveries(ledger_url) == []


def test_one_that_cannot_be_confirmed_now_is_sent_again(scene: Scene) -> None:
    """503 while the provider is out: refusing for good would lose a result that was paid."""
    assert scene.send(UNKNOWN_ID) == 404  # the keys to verify with are fetched
    scene.simulator.outage(30)

    assert scene.send(UNKNOWN_ID, token=scene.row.token) == 503
    assert scene.row.status is RequestStatus.SUBMITTING


def test_header_and_body_must_speak_of_one_request(scene: Scene) -> None:
    """A genuine signature over one id does not carry another one's result."""
    scene.simulator.rule(match=scene.prompt, hold=True)
    request_id = scene.submit()

    assert scene.send(request_id, token=scene.row.token, request_id=UNKNOWN_ID) == 401
    assert scene.row.status is IN_FLIGHT


def test_strangers_are_turned_away_before_anything_is_read(scene: Scene) -> None:
    """Without fal's headers, with nonsense for a body, or with one that never ends."""
    http = scene.gateway.http
    assert http.post("/webhooks/fal", content=b"{}").status_code == 401
    assert http.post(scene.webhook_url, content=b"\xff").status_code == 401
    assert http.post("/webhooks/fal", content=b" " * (9 * 1024 * 1024)).status_code == 413


def test_a_run_that_has_left_is_woken_after_the_answer(scene: Scene) -> None:
    """Prefect is asked to resume it, and has the event, which does not name it for the automation once more."""
    scene.simulator.rule(match=scene.prompt, hold=True)
    request_id = scene.submit()
    flow_run_id = leave(scene)
    scene.simulator.release(request_id)

    (events,) = wait_until(lambda: scene.prefect.bodies("/events"), what="the event")
    assert events[0]["event"] == "fal.job.completed"
    assert events[0]["related"] == [
        {"prefect.resource.id": f"prefect.flow-run.{flow_run_id}", "prefect.resource.role": "resumed-run"}
    ]
    assert scene.prefect.bodies(f"/flow_runs/{flow_run_id}/resume$") == [{}]


class TestLearning:
    @pytest.fixture
    def account(self) -> None:
        """Nobody has told which account is ours."""

    def test_the_account_is_learned_from_a_request_of_ours(self, scene: Scene) -> None:
        """From then on webhooks for other accounts are refused, by every gateway."""
        assert scene.send(UNKNOWN_ID) == 404
        assert scene.ledger.users.account().provider_user_id is None
        scene.submit()

        assert scene.answers(1) == [200]
        assert scene.ledger.users.account().provider_user_id == "sim-user"
        assert scene.send(UNKNOWN_ID, user_id="other-user") == 403

    def test_the_account_is_learned_from_a_confirmed_token(self, scene: Scene) -> None:
        """What our own key confirms is ours as well."""
        scene.simulator.rule(match=scene.prompt, webhook="early")
        scene.post()

        assert scene.answers(1) == [200]
        assert scene.ledger.users.account().provider_user_id == "sim-user"


def leave(scene: Scene) -> str:
    """The run of the row is suspended at Prefect."""
    job = scene.ledger.jobs.get(scene.row.job_id)
    assert job is not None
    assert job.run_id is not None
    run = next(run for run in scene.ledger.runs.not_closed() if run.id == job.run_id)
    flow_run_id = scene.prefect.flow_run_id
    scene.ledger.runs.created(run.id, UUID(flow_run_id))
    assert scene.ledger.runs.on_suspended(run.id, {job.id: {scene.ref}})
    return flow_run_id


def test_a_webhook_that_comes_again_and_again_is_counted_and_then_refused(scene: Scene, ledger_url: str) -> None:
    """A row for its end, a row and a count for what was no news, and an answer of 429 for what is more than enough."""
    request_id = str(uuid4())
    scene.ledger.requests.accepted(scene.ref, request_id=request_id)
    answers = [scene.send(request_id, token=scene.row.token) for _ in range(MOST_IN_WINDOW + 5)]

    assert answers == [200] * MOST_IN_WINDOW + [429] * 5
    with psycopg.connect(ledger_url) as connection:
        found = connection.execute("SELECT verdict, times FROM delivery ORDER BY id").fetchall()
    assert found == [("settled", 1), ("duplicate", MOST_IN_WINDOW - 1)]


def deliveries(ledger_url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(ledger_url) as connection:
        return connection.execute("SELECT request_id, ref, verdict FROM delivery ORDER BY id").fetchall()


def test_the_run_of_the_next_in_line_is_made_ahead_of_its_slot(scene: Scene) -> None:
    """While slots come free: else each would stand empty while a process starts."""
    scene.ledger.users.set_account("fal", slots=1)
    jobs = []
    for name in ("bob", "eve", "zoe"):
        user = scene.ledger.users.add(name).user_id
        spec = RequestSpec(step="generate", endpoint=ENDPOINT, input={"prompt": name}, estimate_usd=Decimal("0.025"))
        jobs.append(scene.ledger.jobs.post(user_id=user, kind="generate-image", parameters={}, first=spec).job.id)
    scene.simulator.rule(match=scene.prompt, hold=True)
    scene.simulator.release(scene.submit())

    def placed() -> list[bool]:
        found = [scene.ledger.jobs.get(job_id) for job_id in jobs]
        return [job is not None and job.run_id is not None for job in found]

    wait_until(lambda: sum(placed()) == 2, what="the run of the second")
    assert placed() == [True, True, False]
    statuses = [scene.ledger.requests.of_job(job_id)[0].status for job_id in jobs]
    assert statuses == [RequestStatus.GRANTED, RequestStatus.QUEUED, RequestStatus.QUEUED]
