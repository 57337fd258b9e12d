"""The warm worker, started as operators start it, against a real Prefect server: what people expect of any worker."""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect_server import PrefectServer, running_prefect
from support import wait_until
from warm_worker import FlowRunOnWorker, Runs, WarmWorkerProcess, is_gone, running_worker


@pytest.fixture(scope="module")
def server() -> Iterator[PrefectServer]:
    """Of its own: other tests rely on that no worker takes their runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_SERVER_LOGGING_LEVEL", "INFO")  # with the log of its requests
        with running_prefect() as server:
            yield server


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def worker(server: PrefectServer, logs: Path) -> Iterator[WarmWorkerProcess]:
    """One for all tests that leave it as it was."""
    with running_worker(server, logs, DARKROOM_CANCEL_GRACE="1") as worker:
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
    wait_until(lambda: {"a first line", "a last line"} <= set(run.log_lines()), what="the lines")


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


def test_a_flow_that_has_hardly_begun_is_cancelled(runs: Runs) -> None:
    """Whatever the worker has got to when the cancel comes."""
    several = [runs.start(how="wait") for _ in range(4)]
    for run, stage in zip(several, ("Scheduled", "Pending", "Pending", "Running"), strict=True):
        wait_until(lambda run=run, stage=stage: run.state["name"] in {stage, "Running"})  # type: ignore[misc]
        run.cancel()
    for run in several:
        run.ended("Cancelled", timeout=10)
        wait_until(lambda run=run: all(is_gone(pid) for pid in run.pids()))  # type: ignore[misc]


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


def test_a_flow_that_suspends_itself_has_no_process_and_has_not_crashed(runs: Runs) -> None:
    """Resumed, it runs again in a new one."""
    run = runs.start("leave")
    pid = run.begun()
    wait_until(lambda: is_gone(pid), timeout=15, what=f"{pid} to end")
    wait_until(lambda: run.state["name"] == "Suspended")
    run.resume()
    assert run.begun(times=2) != pid
    run.ended("Completed")
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


# -- limits ----------------------------------------------------------------------------------------------------------


def test_a_limit_holds_and_the_next_run_starts_as_the_last_ends(
    server: PrefectServer, logs: Path, tmp_path: Path
) -> None:
    """`--limit 1`, on a worker that would poll again only in a minute."""
    with running_worker(server, logs, "--limit", "1", PREFECT_WORKER_QUERY_SECONDS="60") as worker:
        runs = Runs(server, tmp_path, worker.queue)
        several = [runs.start(how="wait") for _ in range(3)]
        for left in (3, 2, 1):
            wait_until(lambda left=left: len([run for run in several if run.pids()]) == 4 - left)  # type: ignore[misc]
            under_way = [run for run in several if run.state["type"] in {"PENDING", "RUNNING"}]
            assert len(under_way) == 1
            under_way[0].go()
        for run in several:
            run.ended("Completed")


# -- the worker's own end --------------------------------------------------------------------------------------------


def test_a_worker_that_is_stopped_ends_its_runs_as_crashed(server: PrefectServer, logs: Path, tmp_path: Path) -> None:
    """In less than ten seconds, also with one that will not hear, and no process is left."""
    with running_worker(server, logs) as worker:
        runs = Runs(server, tmp_path, worker.queue)
        hears, deaf = runs.start(how="wait"), runs.start(how="ignore SIGTERM")
        hears.begun()
        deaf.deaf()
        below = worker.below()
        worker.signal(signal.SIGTERM)
        worker.process.wait(timeout=10)
        assert psutil.wait_procs(below, timeout=2)[1] == []
        for run in (hears, deaf):
            run.ended("Crashed", timeout=1)


def test_a_worker_that_is_killed_leaves_no_process(server: PrefectServer, logs: Path, tmp_path: Path) -> None:
    """Children and forkserver go with it, whatever they are in the middle of."""
    with running_worker(server, logs) as worker:
        runs = Runs(server, tmp_path, worker.queue)
        runs.start(how="wait").begun()
        for how in ("ignore SIGTERM", "sleep in C"):
            runs.start(how=how).deaf()
        below = worker.below()
        assert len(below) >= 4
        worker.signal(signal.SIGKILL)
        assert psutil.wait_procs(below, timeout=2)[1] == []


def test_a_forkserver_that_is_killed_takes_its_runs_along_and_is_replaced(
    server: PrefectServer, logs: Path, tmp_path: Path
) -> None:
    """They are Crashed; the next run finds a new one."""
    with running_worker(server, logs) as worker:
        runs = Runs(server, tmp_path, worker.queue)
        run = runs.start(how="wait")
        pid = run.begun()
        worker.forkservers()[0].kill()
        run.ended("Crashed")
        wait_until(lambda: is_gone(pid))
        runs.start().ended("Completed")
