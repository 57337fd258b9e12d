"""The orchestrator against a real Prefect server, and against servers that fail on demand."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect_server import PrefectServer
from support import free_port, wait_until

from darkroom.clock import utc_now
from darkroom.errors import NeedsHuman, Retry
from darkroom.orchestrator import Orchestrator
from darkroom.orchestrator.api import MOST_PER_PAGE, PrefectApi

DEPLOYMENT = "generate-image/on-demand"


@pytest.fixture
def orchestrator(prefect: PrefectServer) -> Orchestrator:
    return Orchestrator(prefect.api)


@pytest.fixture
def run(orchestrator: Orchestrator) -> UUID:
    """A run of its own for the test. No worker is there, so it stays where it is put."""
    return make_run(orchestrator)


def make_run(orchestrator: Orchestrator, *, key: str | None = None) -> UUID:
    orchestrator.ensure_queue("u_1", limit=3)
    return orchestrator.create_run(
        deployment=DEPLOYMENT,
        run_key=key or uuid4().hex,
        name="ann · generate-image · 1a2b3c4d",
        user_id="u_1",
        plan="pro",
        parameters={"prompt": "a fox"},
    )


def put(prefect: PrefectServer, run: UUID, **state: object) -> None:
    """Into that state, whatever Prefect's rules say."""
    prefect.call("POST", f"/flow_runs/{run}/set_state", json={"state": state, "force": True})


def suspend(prefect: PrefectServer, run: UUID, **details: Any) -> None:
    put(prefect, run, type="RUNNING", name="Running")
    put(prefect, run, type="PAUSED", name="Suspended", state_details={"pause_reschedule": True, **details})


def name_of(orchestrator: Orchestrator, run: UUID) -> str:
    state = orchestrator.run_state(run)
    assert state is not None
    return state.name


# -- queues and runs -------------------------------------------------------------------------------------------------


def test_a_queue_in_no_pool_is_for_a_human() -> None:
    """Before anything was provisioned, the message says what to do."""
    with failing_server(["404", "404"]) as (api, _), pytest.raises(NeedsHuman, match="darkroom provision"):
        Orchestrator(api).ensure_queue("u_1", limit=3)


def test_a_queue_is_made_with_its_limit_and_follows_it(prefect: PrefectServer, orchestrator: Orchestrator) -> None:
    """Made on first use; a changed plan changes the limit of the queue that is there."""
    user = uuid4().hex
    for limit in (3, 8, 8):
        orchestrator.ensure_queue(user, limit=limit)
        queue = prefect.call("GET", f"/work_pools/darkroom/queues/user-{user}")
        assert queue["concurrency_limit"] == limit


def test_the_limits_of_all_queues_are_had_at_once(prefect: PrefectServer, orchestrator: Orchestrator) -> None:
    """Beyond a page; a queue that Prefect made by itself has none."""
    names = [f"user-{n:03}" for n in range(MOST_PER_PAGE)]
    for name in names:
        prefect.call("POST", "/work_pools/darkroom/queues", json={"name": name, "concurrency_limit": 3}, conflict=True)
    limits = orchestrator.queue_limits()
    assert {limits[name] for name in names} == {3}
    assert limits["system"] is None


def test_a_queue_that_was_just_ensured_is_not_asked_about() -> None:
    """A burst of runs of one user is one call for its queue, until the plan changes; a refusal is not remembered."""
    with failing_server(["500", "200", "200", "200"]) as (api, seen):
        orchestrator = Orchestrator(api)
        with pytest.raises(Retry):
            orchestrator.ensure_queue("u_1", limit=3)
        for limit in (3, 3, 3, 8, 8, 3):
            orchestrator.ensure_queue("u_1", limit=limit)
    assert seen == [b'{"concurrency_limit":3}'] * 2 + [b'{"concurrency_limit":8}', b'{"concurrency_limit":3}']


def test_a_run_is_created_once_for_its_key(prefect: PrefectServer, orchestrator: Orchestrator) -> None:
    """Twelve at once for one key are one run, in the user's queue and with the user's tags."""
    found: list[UUID] = []
    threads = [threading.Thread(target=lambda: found.append(make_run(orchestrator, key="one"))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 12
    assert len(set(found)) == 1
    run = prefect.call("GET", f"/flow_runs/{found[0]}")
    assert (run["work_queue_name"], run["name"]) == ("user-u_1", "ann · generate-image · 1a2b3c4d")
    assert {"user:u_1", "plan:pro"} <= set(run["tags"])


def test_an_unknown_deployment_is_for_a_human(orchestrator: Orchestrator) -> None:
    """The message says what to do."""
    with pytest.raises(NeedsHuman, match="darkroom provision"):
        orchestrator.create_run(deployment="no/such", run_key="x", name="x", user_id="u_1", plan="pro", parameters={})


def test_a_deployment_that_was_made_anew_is_found_again(prefect: PrefectServer, orchestrator: Orchestrator) -> None:
    """Its id is remembered, but not beyond its life."""
    make_run(orchestrator)
    old = prefect.call("GET", f"/deployments/name/{DEPLOYMENT}")["id"]
    prefect.call("DELETE", f"/deployments/{old}")
    prefect.provision()
    run = prefect.call("GET", f"/flow_runs/{make_run(orchestrator)}")
    assert run["deployment_id"] != old


def test_tags_are_added_to_those_there_are(prefect: PrefectServer, orchestrator: Orchestrator, run: UUID) -> None:
    """None is lost, none doubled."""
    orchestrator.add_tags(run, ["user:u_1", "user:u_2"])
    tags = prefect.call("GET", f"/flow_runs/{run}")["tags"]
    assert sorted(tags) == ["darkroom", "plan:pro", "user:u_1", "user:u_2"]


def test_a_run_that_does_not_exist_has_no_state(orchestrator: Orchestrator) -> None:
    """None, not an error: a run may have been deleted in the UI."""
    assert orchestrator.run_state(uuid4()) is None


# -- waking ----------------------------------------------------------------------------------------------------------


def feed(prefect: PrefectServer, run: UUID) -> list[str]:
    """The names of the events about the run that are no state of it, those of the automation's actions among them."""
    body = {"filter": {"any_resource": {"id": [f"prefect.flow-run.{run}"]}, "order": "ASC"}, "limit": 50}
    names = [each["event"] for each in prefect.call("POST", "/events/filter", json=body)["events"]]
    return [name for name in names if not name.startswith("prefect.flow-run.")]


def test_a_wake_resumes_a_suspended_run_and_the_automation_what_could_not_be_asked_for(
    prefect: PrefectServer, orchestrator: Orchestrator, run: UUID
) -> None:
    """At once, as often as the run suspends. The automation keeps out of it, so none of its actions fails."""

    class NeverResumed(PrefectApi):
        def call(self, method: str, path: str, **how: Any) -> Any:
            if path.endswith("/resume"):
                raise Retry("Not now.")
            return prefect.api.call(method, path, **how)

    for event in ("fal.job.completed", "darkroom.slot.granted"):
        suspend(prefect, run)
        assert orchestrator.wake(run, event=event, request_ref="r_1", payload={"ref": "r_1"}) is True
        assert name_of(orchestrator, run) == "Resuming"
        assert orchestrator.wake(run, event=event, request_ref="r_1", payload={"ref": "r_1"}) is False
    for ref in ("r_2", "r_3"):
        suspend(prefect, run)
        with Orchestrator(NeverResumed(prefect.environment["PREFECT_API_URL"])) as without:
            assert without.wake(run, event="fal.job.failed", request_ref=ref, payload={}) is False
        wait_until(lambda: name_of(orchestrator, run) == "Resuming", every=0.05, what="the automation")
    executed = "prefect.automation.action.executed"
    wait_until(lambda: feed(prefect, run).count(executed) == 2, timeout=20, every=0.5, what="the actions in the feed")
    seen = feed(prefect, run)
    actions = Counter(name for name in seen if name.startswith("prefect.automation.action."))
    assert actions == {"prefect.automation.action.triggered": 2, executed: 2}
    assert seen.count("fal.job.completed") == 2


def test_a_direct_resume_says_whether_the_run_goes_on(
    prefect: PrefectServer, orchestrator: Orchestrator, run: UUID
) -> None:
    """True for a suspended run, False for one that is not, or is not there."""
    assert orchestrator.resume(run) is False
    suspend(prefect, run)
    assert orchestrator.resume(run) is True
    assert name_of(orchestrator, run) == "Resuming"
    assert orchestrator.resume(run) is False
    assert orchestrator.resume(uuid4()) is False


def test_a_run_that_asks_a_person_is_resumed_without_an_answer(
    prefect: PrefectServer, orchestrator: Orchestrator, run: UUID
) -> None:
    """Also where its process died before it had stored the form."""
    form = {"description": "d", "response": "r", "schema": "s"}
    suspend(prefect, run, run_input_keyset=form)
    assert prefect.call("POST", f"/flow_runs/{run}/resume", json={})["status"] == "REJECT"
    assert orchestrator.resume(run) is True
    assert name_of(orchestrator, run) == "Resuming"
    assert orchestrator.answer(run) is None


@pytest.mark.parametrize("state", ["CRASHED", "FAILED", "RUNNING", "PENDING"])
def test_a_run_without_a_process_is_put_back(
    prefect: PrefectServer, orchestrator: Orchestrator, run: UUID, state: str
) -> None:
    """Scheduled again under a name of its own, so that the history shows it; a cancel then needs nobody's word."""
    prefect.call("PATCH", f"/flow_runs/{run}", json={"infrastructure_pid": "4711"})
    put(prefect, run, type=state)
    assert orchestrator.recover(run) is True
    assert name_of(orchestrator, run) == "Recovering"
    orchestrator.cancel_run(run)
    assert name_of(orchestrator, run) == "Cancelled"


@pytest.mark.parametrize("state", ["COMPLETED", "CANCELLED", "SCHEDULED", "CANCELLING"])
def test_a_run_that_is_over_or_under_way_is_left_alone(
    prefect: PrefectServer, orchestrator: Orchestrator, run: UUID, state: str
) -> None:
    """Nothing is started a second time."""
    put(prefect, run, type=state)
    before = orchestrator.run_state(run)
    assert orchestrator.recover(run) is False
    assert orchestrator.run_state(run) == before


def test_a_suspended_run_is_not_recovered(prefect: PrefectServer, orchestrator: Orchestrator, run: UUID) -> None:
    """It has no process by right, and only what it waits for brings it back."""
    suspend(prefect, run)
    assert orchestrator.recover(run) is False
    assert name_of(orchestrator, run) == "Suspended"


def test_a_run_is_cancelled_at_once_where_it_has_no_process(
    prefect: PrefectServer, orchestrator: Orchestrator, run: UUID
) -> None:
    """A second time, and for a run that is over, nothing happens."""
    suspend(prefect, run)
    for _ in range(2):
        orchestrator.cancel_run(run)
        assert name_of(orchestrator, run) == "Cancelled"


def test_a_cancel_that_nobody_confirms_is_confirmed(
    prefect: PrefectServer, orchestrator: Orchestrator, run: UUID
) -> None:
    """And only that: a run that is in any other state stays in it."""
    put(prefect, run, type="RUNNING", name="Running")
    assert orchestrator.confirm_cancel(run) is False
    orchestrator.cancel_run(run)
    assert name_of(orchestrator, run) == "Cancelling"
    assert orchestrator.confirm_cancel(run) is True
    assert name_of(orchestrator, run) == "Cancelled"


@pytest.mark.parametrize("page", [1, MOST_PER_PAGE])
def test_runs_that_were_taken_up_and_never_ended_are_found(
    prefect: PrefectServer, orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    """Of that deployment, and older than the time that is asked for; what waits or has ended is not among them."""
    monkeypatch.setattr("darkroom.orchestrator.api.MOST_PER_PAGE", page)
    states = ("RUNNING", "PENDING", "CANCELLING", "SCHEDULED", "CRASHED", "PAUSED")
    runs = {state: make_run(orchestrator) for state in states}
    for state, run in runs.items():
        if state == "CANCELLING":  # of a run that nothing carries it would be Cancelled at once
            put(prefect, run, type="RUNNING", name="Running")
        put(prefect, run, type=state, name=state.capitalize())
    lost = {runs[state] for state in ("RUNNING", "PENDING", "CANCELLING")}
    later = utc_now() + timedelta(seconds=5)
    assert lost == lost.intersection(orchestrator.under_way_since(later, deployment=DEPLOYMENT))
    assert (
        not set(runs.values()).difference(lost).intersection(orchestrator.under_way_since(later, deployment=DEPLOYMENT))
    )
    assert not lost.intersection(orchestrator.under_way_since(utc_now() - timedelta(minutes=1), deployment=DEPLOYMENT))


@pytest.mark.parametrize("state", ["CRASHED", "FAILED", "RUNNING", "PENDING", "CANCELLING"])
def test_a_run_that_is_given_up_has_failed(
    prefect: PrefectServer, orchestrator: Orchestrator, run: UUID, state: str
) -> None:
    """With the reason as its message."""
    put(prefect, run, type=state, name=state.capitalize())
    orchestrator.give_up(run, message="lost ten times")
    seen = orchestrator.run_state(run)
    assert seen is not None
    assert (seen.name, seen.message) == ("Failed", "lost ten times")


def test_a_run_whose_queue_was_deleted_is_stranded(prefect: PrefectServer, orchestrator: Orchestrator) -> None:
    """No worker is offered it any more; a queue of the same name that is made anew does not have it."""
    user = uuid4().hex
    orchestrator.ensure_queue(user, limit=3)
    run = orchestrator.create_run(
        deployment=DEPLOYMENT, run_key=uuid4().hex, name="x", user_id=user, plan="pro", parameters={"prompt": "a fox"}
    )
    prefect.call("DELETE", f"/work_pools/darkroom/queues/user-{user}")
    orchestrator.ensure_named_queue(f"user-{user}", limit=3)
    assert orchestrator.run_states([run])[run].stranded is True


def test_the_reason_of_a_failure_does_not_repeat_the_parameters(
    prefect: PrefectServer, orchestrator: Orchestrator, run: UUID
) -> None:
    """What an exception says about them would show the prompt."""
    put(prefect, run, type="FAILED", name="Failed", message="Flow run encountered an exception: ValueError: a fox")
    seen = orchestrator.run_state(run)
    assert seen is not None
    assert seen.reason == "Failed (ValueError)"


# -- a server that fails ---------------------------------------------------------------------------------------------


def test_a_wrong_auth_string_is_for_a_human(prefect: PrefectServer) -> None:
    """The server is closed to everybody else, and the message names the variable."""
    stranger = Orchestrator(PrefectApi(prefect.environment["PREFECT_API_URL"], auth="darkroom:guess"))
    with stranger, pytest.raises(NeedsHuman, match="PREFECT_API_AUTH_STRING"):
        stranger.run_state(uuid4())


def test_a_server_that_is_not_there_is_worth_another_try() -> None:
    """Whoever called keeps what is to be done on record."""
    with Orchestrator(PrefectApi(f"http://127.0.0.1:{free_port()}/api")) as nobody, pytest.raises(Retry):
        nobody.resume(uuid4())


def test_a_creation_is_repeated_when_its_answer_is_lost() -> None:
    """The idempotency key makes the second call the same as the first."""
    run = uuid4()
    with failing_server(["cut", "503", f'{{"id": "{run}"}}']) as (api, seen):
        orchestrator = Orchestrator(api)
        orchestrator._deployment_ids[DEPLOYMENT] = uuid4()
        found = orchestrator.create_run(
            deployment=DEPLOYMENT, run_key="k", name="k", user_id="u", plan="pro", parameters={}
        )
    assert found == run
    assert len(seen) == 3


def test_a_change_of_state_is_never_repeated() -> None:
    """Its answer was lost: whether it happened is for reconcile to see, not to be guessed."""
    for answer in ("cut", "503"):
        with failing_server([answer]) as (api, seen), pytest.raises(Retry):
            Orchestrator(api).cancel_run(uuid4())
        assert len(seen) == 1


def test_a_repeated_event_keeps_its_id() -> None:
    """Prefect drops the second one if the first had come after all."""
    with failing_server(["{}", "cut", ""]) as (api, seen):
        Orchestrator(api).wake(uuid4(), event="fal.job.completed", request_ref="r", payload={})
    assert len(seen) == 3
    assert seen[1] == seen[2]


def test_a_run_that_is_resumed_is_resumed_though_its_event_is_lost() -> None:
    """Who asked tells the workers. Where neither could be said, it is for reconcile."""
    resumed = '{"status": "ACCEPT"}'
    with failing_server([resumed, "500"]) as (api, seen):
        assert Orchestrator(api).wake(uuid4(), event="fal.job.completed", request_ref="r", payload={}) is True
    with failing_server(["500", "500"]) as (api, seen), pytest.raises(Retry):
        Orchestrator(api).wake(uuid4(), event="fal.job.completed", request_ref="r", payload={})
    assert len(seen) == 2


@contextmanager
def failing_server(answers: list[str]) -> Iterator[tuple[PrefectApi, list[bytes]]]:
    """Answers call after call with that status or that body, or by cutting the connection. Keeps the bodies."""
    seen: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            seen.append(self.rfile.read(int(self.headers["Content-Length"])))
            answer = answers[len(seen) - 1]
            if answer == "cut":
                self.close_connection = True
                return
            status, body = (int(answer), b"") if answer.isdigit() else (200, answer.encode())
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PATCH = do_POST

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        api = PrefectApi(f"http://127.0.0.1:{server.server_port}/api")
        try:
            yield api, seen
        finally:
            api.close()
            server.shutdown()
            thread.join()


def test_the_states_of_many_runs_are_had_at_once(prefect: PrefectServer, orchestrator: Orchestrator) -> None:
    """More than Prefect gives on one page; one that does not exist is missing, not an error."""
    deployment = prefect.call("GET", "/deployments/name/generate-image/on-demand")["id"]
    body = {"parameters": {"prompt": "a fox"}, "state": {"type": "PAUSED", "name": "Suspended"}}
    made = [UUID(prefect.call("POST", f"/deployments/{deployment}/create_flow_run", json=body)["id"]) for _ in range(3)]
    unknown = [uuid4() for _ in range(MOST_PER_PAGE)]
    states = orchestrator.run_states([made[0], *unknown, *made[1:]])
    assert {run: state.name for run, state in states.items()} == dict.fromkeys(made, "Suspended")


def test_progress_is_one_bar_that_moves_on(orchestrator: Orchestrator, run: UUID, prefect: PrefectServer) -> None:
    """Told again it is changed, in the run's list of artifacts and where the newest of each key are shown."""
    key = f"progress-{uuid4().hex}"
    orchestrator.show_progress(run, key=key, percent=10, text="1 of 10")
    orchestrator.show_progress(run, key=key, percent=40, text="4 of 10")
    asked = {"artifacts": {"key": {"any_": [key]}}}
    shown = prefect.call("POST", "/artifacts/filter", json=asked)
    assert [(each["data"], each["description"]) for each in shown] == [(40, "4 of 10")]
    newest = prefect.call("POST", "/artifacts/latest/filter", json={**asked, "flow_runs": {"id": {"any_": [str(run)]}}})
    assert [each["data"] for each in newest] == [40]


def test_runs_share_the_keys_of_their_artifacts(orchestrator: Orchestrator, prefect: PrefectServer) -> None:
    """A key says what an artifact is; each run keeps one of its own."""
    runs = [orchestrator.run_now("generate-image/on-demand", prompt="a fox") for _ in range(2)]
    for turn in (1, 2):
        for n, each in enumerate(runs, 1):
            orchestrator.show_progress(each, key="progress", percent=10 * n + turn, text="")
    for n, each in enumerate(runs, 1):
        asked = {"artifacts": {"key": {"any_": ["progress"]}, "flow_run_id": {"any_": [str(each)]}}}
        assert [found["data"] for found in prefect.call("POST", "/artifacts/filter", json=asked)] == [10 * n + 2]


# -- what a deployment takes -----------------------------------------------------------------------------------------


def test_what_a_deployment_takes_is_read_from_its_form(orchestrator: Orchestrator) -> None:
    """By name; a deployment that is not there is said to be missing."""
    takes = orchestrator.parameters_of("generate-image/on-demand")
    assert {"prompt", "seed", "user"} <= takes.names
    assert takes.required == {"prompt"}
    with pytest.raises(NeedsHuman, match="no deployment 'no-such-flow/on-demand'"):
        orchestrator.parameters_of("no-such-flow/on-demand")
