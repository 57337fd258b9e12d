"""The warm worker, started as operators start it, against a real Prefect server: what people expect of any worker."""

from __future__ import annotations

import json
import re
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import psycopg
import pytest
from prefect.client.schemas.responses import WorkerFlowRunResponse
from prefect_server import PrefectServer
from project_copy import compile_all, copy_packages, environment
from support import SLOW, wait_until
from warm_worker import FlowRunOnWorker, Runs, WarmWorkerProcess, is_gone, running_worker, without_events

from darkroom.clock import utc_now
from darkroom.deployments.home import Home
from darkroom.deployments.worker.warm import ready_since
from darkroom.ledger import READY

POLLS_NEVER = {"PREFECT_WORKER_QUERY_SECONDS": "3600"}
NO_LEDGER = {"DARKROOM_LEDGER_URL": "postgresql://127.0.0.1:9/nowhere"}


@pytest.fixture(scope="module")
def server(prefect: PrefectServer) -> PrefectServer:
    """That of all tests, which rely on that no worker takes their runs: each here has a queue of its own."""
    return prefect


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def worker(server: PrefectServer, logs: Path) -> Iterator[WarmWorkerProcess]:
    """One for all tests that leave it as it was. Of every run it is told by Prefect's events: it polls in an hour."""
    settings = {"DARKROOM_CANCEL_GRACE": "1", "PREFECT_WORKER_HEARTBEAT_SECONDS": "600"}
    with running_worker(server, logs, **POLLS_NEVER, **NO_LEDGER, **settings) as worker:
        yield worker


@pytest.fixture
def runs(server: PrefectServer, worker: WarmWorkerProcess, tmp_path: Path) -> Runs:
    return Runs(server, tmp_path, worker.queue)


def seen_by(run: FlowRunOnWorker) -> dict[str, Any]:
    pid = run.begun()
    return dict(json.loads((run.folder / f"begun-{pid}").read_text()))


# -- environment and folder ------------------------------------------------------------------------------------------


def test_a_run_has_the_environment_and_folder_of_its_deployment_and_its_own(runs: Runs, tmp_path: Path) -> None:
    """The run's own over the deployment's over the worker's, and two side by side do not see each other's."""
    deployed = {"env": {"SHARED": "deployment", "OWN": "deployment"}, "working_dir": str(tmp_path)}
    other = tmp_path / "other"
    other.mkdir()
    own = {"env": {"OWN": "run"}, "working_dir": str(other)}
    one = runs.start(deployed_with=deployed, fetched=True, how="wait")
    two = runs.start(deployed_with=deployed, job_variables=own, fetched=True, how="wait")
    saw_one, saw_two = seen_by(one), seen_by(two)
    for run in (one, two):
        run.go()
        run.ended("Completed")
    assert (saw_one["cwd"], saw_two["cwd"]) == (str(tmp_path), str(other))
    assert saw_one["environment"]["OWN"] == "deployment"
    assert saw_two["environment"]["OWN"] == "run"
    assert saw_one["environment"]["PREFECT__FLOW_RUN_ID"] == one.id
    assert saw_two["environment"]["PREFECT__FLOW_RUN_ID"] == two.id


def test_variables_that_work_at_the_start_of_a_process_work(runs: Runs, tmp_path: Path) -> None:
    """Though its interpreter has long been started: time zone, where modules are found, Prefect's own settings."""
    env = {"TZ": "Asia/Kathmandu", "PYTHONPATH": str(tmp_path), "PREFECT_LOGGING_LEVEL": "ERROR"}
    run = runs.start(deployed_with={"env": env})
    loud = runs.start()
    for each in (run, loud):
        each.ended("Completed")
    assert seen_by(run)["time zone"] == "+0545"
    assert str(tmp_path) in seen_by(run)["path"]
    assert str(tmp_path) not in seen_by(loud)["path"]
    wait_until(lambda: "a last line" in loud.log_lines(), every=0.1)
    assert "a last line" not in run.log_lines()


def test_a_run_without_a_folder_has_a_temporary_one(runs: Runs) -> None:
    """What it leaves there is gone afterwards."""
    run = runs.start(fetched=True)
    run.ended("Completed")
    folder = Path(seen_by(run)["cwd"])
    assert folder.parent == Path(tempfile.gettempdir())
    wait_until(lambda: not folder.exists(), what=f"{folder} to go")


# -- what it says ----------------------------------------------------------------------------------------------------


def test_every_line_a_flow_logs_is_in_prefect(runs: Runs) -> None:
    """Also the last, which was said just before its process ended."""
    run = runs.start()
    run.ended("Completed")
    wait_until(lambda: {"a first line", "a last line"} <= set(run.log_lines()), every=0.1, what="the lines")


def test_what_a_flow_prints_goes_to_the_workers_output_unless_that_is_unwanted(
    runs: Runs, worker: WarmWorkerProcess
) -> None:
    """`stream_output`, as in Prefect's own worker."""
    silent = runs.start(job_variables={"stream_output": False})
    loud = runs.start()
    for run in (silent, loud):
        run.ended("Completed")
    wait_until(lambda: f"printed by {loud.folder.name}" in worker.log)
    assert f"printed by {silent.folder.name}" not in worker.log


# -- ends ------------------------------------------------------------------------------------------------------------


def test_a_process_that_is_killed_hurts_only_its_own_run(runs: Runs) -> None:
    """That run is Crashed, with the likely reasons and its hooks; the one beside it goes on."""
    beside = runs.start(how="wait")
    beside.begun()
    killed = runs.start(how="kill itself")
    message = killed.ended("Crashed")["message"]
    assert "SIGKILL" in message
    assert "memory" in message
    wait_until(lambda: killed.hooks() == ["crashed Crashed"])
    beside.go()
    beside.ended("Completed")


def test_a_process_that_exits_crashes_its_run(runs: Runs) -> None:
    """With the status it exited with."""
    assert "status 3" in runs.start(how="exit").ended("Crashed")["message"]


def test_a_flow_that_raises_has_failed(runs: Runs) -> None:
    """Not crashed: its process has said so itself."""
    run = runs.start(how="fail")
    assert "as it should" in run.ended("Failed")["message"]
    assert run.hooks() == ["failed Failed"]


def test_a_failure_is_told_once_in_the_log(runs: Runs) -> None:
    """Not again as a fault of Prefect's engine, with a second traceback."""
    run = runs.start(how="fail")
    run.ended("Failed")
    wait_until(lambda: any("Finished in state" in line for line in run.log_lines()), every=0.1, what="the last line")
    assert sum("Traceback" in line for line in run.log_lines()) == 1
    assert not any("Engine execution" in line for line in run.log_lines())


# -- cancelling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["wait", "ignore SIGTERM", "sleep in C"])
def test_a_running_flow_is_cancelled(runs: Runs, how: str) -> None:
    """Within seconds, once, and its process is gone; one that will not hear is killed after the grace."""
    run = runs.start(how=how)
    pid = run.begun() if how == "wait" else run.deaf()
    run.cancel()
    run.ended("Cancelled", timeout=10)
    wait_until(lambda: is_gone(pid), what=f"{pid} to end")
    wait_until(lambda: run.hooks(), what="its hook")
    assert run.hooks() in (["cancelled Cancelling"], ["cancelled Cancelled"])


def test_a_cancelled_flow_has_the_answer_of_its_paid_call(runs: Runs) -> None:
    """Longer than the grace, which the one that will not hear does not outlive."""
    pays, deaf = runs.start(how="pay"), runs.start(how="ignore SIGTERM")
    pays.deaf()
    killed = deaf.deaf()
    pays.cancel()
    wait_until(lambda: pays.state["name"] == "Cancelling", every=0.05)
    deaf.cancel()
    wait_until(lambda: is_gone(killed), timeout=10, what="the grace to be over")
    pays.go()
    pays.ended("Cancelled")
    assert (pays.folder / "answered").exists()


def test_a_flow_that_has_hardly_begun_is_cancelled(runs: Runs) -> None:
    """Whatever the worker has got to when the cancel comes."""
    several = [runs.start(how="wait") for _ in range(4)]
    for run, stage in zip(several, ("Scheduled", "Pending", "Pending", "Running"), strict=True):
        wait_until(lambda run=run, stage=stage: run.state["name"] in {stage, "Running"})  # type: ignore[misc]
        run.cancel()
    for run in several:
        run.ended("Cancelled", timeout=10)
        wait_until(lambda run=run: all(is_gone(pid) for pid in run.pids()))  # type: ignore[misc]


def test_a_run_that_is_cancelled_before_it_has_a_process_never_begins(runs: Runs, worker: WarmWorkerProcess) -> None:
    """The worker has taken it, and forks while the cancel comes."""
    beside = runs.start(how="wait")
    pid = beside.begun()
    [forkserver] = worker.forkservers()
    forkserver.suspend()
    try:
        run = runs.start(how="wait")
        wait_until(lambda: run.state["name"] == "Pending", every=0.05)
        run.cancel()
        beside.cancel()
        # Not its state: one that does not end within its grace is killed, and its hooks wait for the forkserver.
        wait_until(lambda: is_gone(pid), every=0.05, what="what came after it to be heard")
    finally:
        forkserver.resume()
    run.ended("Cancelled")
    wait_until(lambda: all(is_gone(pid) for pid in run.pids()))
    assert not run.pids()


# -- suspending ------------------------------------------------------------------------------------------------------


def test_a_flow_that_is_suspended_in_the_ui_stops_at_its_next_task(runs: Runs) -> None:
    """It stays Suspended, and its process ends; resumed, it runs again in a new one."""
    run = runs.start("two_tasks")
    pid = run.begun()
    run.suspend()
    run.go()
    wait_until(lambda: is_gone(pid), timeout=15, what=f"{pid} to end")
    assert run.state["name"] == "Suspended"
    assert not (run.folder / "second").exists()
    run.resume()
    assert run.begun(times=2) != pid
    run.ended("Completed")


def test_a_flow_that_suspends_itself_has_no_process_and_has_not_crashed(server: PrefectServer, runs: Runs) -> None:
    """Resumed, it runs again in a new one, which does not say again what is on record."""
    run = runs.start("leave")
    pid = run.begun()
    wait_until(lambda: is_gone(pid), timeout=15, what=f"{pid} to end")
    wait_until(lambda: run.state["name"] == "Suspended", every=0.05)
    run.resume()
    assert run.begun(times=2) != pid
    run.ended("Completed")
    # Though neither process has asked for it: a resumed run is the same attempt.
    assert [json.loads(each.read_text()) for each in run.folder.glob("begun-*")] == [["Running", 1, True]] * 2
    changes = requests(server).count(f"PATCH /api/flow_runs/{run.id}")
    assert changes == 3  # the pid of each process, and once the flow's version
    assert run.states() == [
        "Scheduled",
        "Pending",
        "Running",
        "Suspended",
        "Resuming",
        "Pending",
        "Running",
        "Completed",
    ]


def test_what_a_resumed_run_was_suspended_by_lies_before_it_was_ready(server: PrefectServer, tmp_path: Path) -> None:
    """By the server's own times: a stream that is heard again tells of it again, and the run must not stop for it."""
    queue = f"nobodys-{uuid4().hex}"
    run = Runs(server, tmp_path, queue).start()
    for state in ("PENDING", "RUNNING"):
        server.call("POST", f"/flow_runs/{run.id}/set_state", json={"state": {"type": state}, "force": True})
    run.suspend()
    suspended_at = datetime.fromisoformat(run.state["timestamp"])
    run.resume()
    wanted = {"work_queue_names": [queue]}
    (offered,) = server.call("POST", "/work_pools/darkroom/get_scheduled_flow_runs", json=wanted)
    since = ready_since(WorkerFlowRunResponse.model_validate(offered).flow_run)
    assert suspended_at < since <= utc_now()


# -- being told --------------------------------------------------------------------------------------------------------


def test_a_run_is_taken_at_once_when_it_is_made_in_the_ui_and_when_it_is_resumed(runs: Runs) -> None:
    """By a worker that would ask only in an hour."""
    run = runs.start("leave")
    first = run.begun()
    wait_until(lambda: run.state["name"] == "Suspended", every=0.05)
    run.resume()
    assert run.begun(times=2) != first
    run.ended("Completed")


def test_a_run_is_taken_at_once_when_the_ledger_tells_and_as_another_ends_and_a_killed_worker_leaves_no_process(
    server: PrefectServer, logs: Path, tmp_path: Path
) -> None:
    """Also where Prefect's events do not reach the worker. And never more than `--limit` allows.

    Children and forkserver go with a worker that is killed, whatever they are in the middle of.
    """
    with (
        without_events(server) as api,
        running_worker(server, logs, "--limit", "3", **POLLS_NEVER, PREFECT_API_URL=api) as worker,
    ):
        runs = Runs(server, tmp_path, worker.queue)
        several = [runs.start(how=how) for how in ("wait", "wait", "wait", "ignore SIGTERM", "sleep in C")]
        announce(server)
        for begun in (3, 4, 5):
            wait_until(
                lambda begun=begun: len([run for run in several if run.pids()]) == begun,  # type: ignore[misc]
            )
            under_way = [run for run in several if run.state["type"] in {"PENDING", "RUNNING"}]
            assert len(under_way) == 3
            if begun < 5:
                ends = next(run for run in under_way if run in several[:3])
                ends.go()
                ends.ended("Completed")

        for run in several[3:]:
            run.deaf()
        below = worker.below()
        assert len(below) >= 4
        worker.signal(signal.SIGKILL)
        assert psutil.wait_procs(below, timeout=SLOW * 2)[1] == []


def announce(server: PrefectServer) -> None:
    """As the ledger does when it has noted a flow run."""
    with psycopg.connect(server.environment["DARKROOM_LEDGER_URL"]) as connection:
        connection.execute(f"NOTIFY {READY}")


# -- whose run it is ---------------------------------------------------------------------------------------------------


def suspended(run: FlowRunOnWorker) -> None:
    run.suspend()


def ready_again(run: FlowRunOnWorker) -> None:
    run.put("SCHEDULED", name="Recovering", force=True, scheduled_time=str(utc_now() + timedelta(hours=1)))


def somebody_elses(run: FlowRunOnWorker) -> None:
    run.server.call("PATCH", f"/flow_runs/{run.id}", json={"infrastructure_pid": "1"})


def over(run: FlowRunOnWorker) -> None:
    run.put("COMPLETED", force=True)


@pytest.mark.parametrize("become", [suspended, ready_again, somebody_elses, over], ids=lambda become: become.__name__)
def test_a_process_that_is_killed_does_not_speak_for_a_run_that_is_no_longer_its_own(
    runs: Runs, server: PrefectServer, worker: WarmWorkerProcess, become: Callable[[FlowRunOnWorker], None]
) -> None:
    """The run stays as it is, whatever became of the process that once had it."""
    run = runs.start(how="wait")
    pid = run.begun()
    become(run)
    asked = f"GET /api/flow_runs/{run.id}"
    before, reads = run.states(), requests(server).count(asked)
    psutil.Process(pid).kill()
    wait_until(lambda: requests(server).count(asked) > reads, every=0.1, what="the worker to look")
    runs.start().ended("Completed")
    assert run.states() == before
    assert run.hooks() == []


def test_a_run_that_is_ready_again_while_its_process_ends_is_taken_once_that_has_ended(runs: Runs) -> None:
    """It is not lost, and never has two processes. Nor is it found by chance, a minute or more later."""
    began = time.monotonic()
    run = runs.start("linger")
    first = run.begun()
    usual = time.monotonic() - began
    wait_until((run.folder / "lingers").exists)
    run.put("SCHEDULED", name="Recovering", force=True)
    wait_until(lambda: run.state["name"] == "Recovering", every=0.05)
    assert run.pids() == [first]
    assert not is_gone(first)
    ends = time.monotonic()
    run.go()
    assert run.begun(times=2) != first
    assert time.monotonic() - ends < 10 * max(usual, 1.0)
    assert json.loads((run.folder / "alone").read_text()) is True
    run.ended("Completed")


# -- requests ----------------------------------------------------------------------------------------------------------


def requests(server: PrefectServer) -> list[str]:
    """Those that Prefect's server has answered, as `GET /api/…`."""
    found = re.findall(r'"([A-Z]+) (/api/\S*) HTTP', Home(server.home).log_file("prefect").read_text())
    return [f"{method} {path}" for method, path in found]


def test_nothing_is_read_twice_for_two_runs_of_one_deployment(server: PrefectServer, runs: Runs) -> None:
    """Deployment, flow, pool, queue and stores are known from the first, to the worker and to its child."""
    name, timed = "reconcile/every-minute", ("daily-report/weekdays", "sync-models/daily")
    others = [server.call("GET", f"/deployments/name/{each}")["id"] for each in timed]
    ledger = {"env": {"DARKROOM_LEDGER_URL": server.environment["DARKROOM_LEDGER_URL"]}}
    runs.start_deployed(name, job_variables=ledger).ended("Completed")
    known = len(requests(server))
    runs.start_deployed(name, job_variables=ledger).ended("Completed")
    # What the test asks, and what the flow asks for: its blocks, and the deployments whose missed slots it looks for.
    ours = (
        "GET /api/deployments/name/",
        "GET /api/flow_runs/",
        "GET /api/block_types/",
        *(f"GET /api/deployments/{other}" for other in others),
    )
    asked = [call for call in requests(server)[known:] if call.startswith("GET")]
    assert [call for call in asked if not call.startswith(ours)] == []
    assert [call for call in asked if "/local-file-system/" in call] == []  # the media store


# -- new code ----------------------------------------------------------------------------------------------------------

PROBE = """
import time
from pathlib import Path
from prefect import flow

@flow
def probe(folder: str) -> None:
    here = Path(folder)
    here.mkdir(parents=True, exist_ok=True)
    (here / "begun-1").touch()
    while not (here / "go").exists():
        time.sleep(0.02)
    (here / "generation").write_text("{generation}")
"""


def test_a_worker_that_nobody_tells_anything_polls_and_takes_up_new_code_on_sighup_and_ends_all_on_sigterm(
    server: PrefectServer, logs: Path, tmp_path: Path
) -> None:
    """It polls for runs that are ready, and for those of its own that were cancelled.

    What runs finishes on the old, the next run has the new; what cannot be forked is refused with the reason.

    A worker that is stopped ends its runs as Crashed, also the one that will not hear, and leaves no process. It waits
    for the answer of a paid call under way: lost, that would be paid once more.
    """
    project = copy_packages(tmp_path / "project")
    compile_all(project)
    probe = project / "darkroom" / "flows" / "probe.py"
    probe.write_text(PROBE.format(generation=1))
    told_nothing = {**NO_LEDGER, "PREFECT_WORKER_QUERY_SECONDS": "1"}
    with (
        without_events(server) as api,
        running_worker(server, logs, **told_nothing, PREFECT_API_URL=api, **environment(project)) as worker,
    ):
        runs = Runs(server, tmp_path, worker.queue)
        [old] = worker.forkservers()
        cancelled = runs.start(how="wait")
        cancelled.begun()
        cancelled.cancel()
        cancelled.ended("Cancelled")

        under_way = runs.start("probe", code=probe)
        under_way.begun()

        probe.write_text(PROBE.format(generation=2))
        worker.signal(signal.SIGHUP)
        wait_until(lambda: "New code is taken up" in worker.log, timeout=20)
        assert generation_of(runs.start("probe", code=probe)) == "2"
        assert old.is_running()
        assert generation_of(under_way) == "1"
        wait_until(lambda: not old.is_running(), what="the old forkserver to end")

        probe.write_text("import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()")
        worker.signal(signal.SIGHUP)
        wait_until(lambda: "1 thread(s)" in worker.log, timeout=20)
        wait_until(lambda: len(worker.forkservers()) == 1, what="the refused forkserver to end")
        assert generation_of(runs.start("probe", code=probe)) == "2"

        hears, deaf, pays = (runs.start(how=how) for how in ("wait", "ignore SIGTERM", "pay"))
        hears.begun()
        killed = deaf.deaf()
        pays.deaf()
        below = worker.below()
        worker.signal(signal.SIGTERM)
        wait_until(lambda: is_gone(killed), timeout=10, what="the grace to be over")
        pays.go()
        worker.process.wait(timeout=SLOW * 10)
        assert psutil.wait_procs(below, timeout=SLOW * 2)[1] == []
        assert (pays.folder / "answered").exists()
        for run in (hears, deaf, pays):
            run.ended("Crashed", timeout=1)


def generation_of(run: FlowRunOnWorker) -> str:
    run.begun()
    run.go()
    run.ended("Completed")
    return (run.folder / "generation").read_text()


# -- the forkserver's end --------------------------------------------------------------------------------------------


def test_a_forkserver_that_is_killed_takes_its_runs_along_and_is_replaced(
    runs: Runs, worker: WarmWorkerProcess
) -> None:
    """They are Crashed; the next run finds a new one."""
    run = runs.start(how="wait")
    pid = run.begun()
    worker.forkservers()[0].kill()
    run.ended("Crashed")
    wait_until(lambda: is_gone(pid))
    runs.start().ended("Completed")
