"""`darkroom up` keeps its promises: parts come back, state lasts, nothing is left behind.

What it does not start over is held in `tests/unit/test_stack_refusals.py`.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import psutil
import pytest
from project_copy import environment
from running import DARKROOM, Stack, hostile, running_stack
from support import SLOW, wait_until

PARTS = ("postgres", "prefect", "gateway", "worker", "simulator")
# Prefect's server is killed in `test_asleep.py`, a worker in `test_every_point.py`.
KILLED = ("postgres", "gateway", "simulator")


class Own:
    """A stack whose parts may be killed, and it itself too: `stack` is another one after the next `start`."""

    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        self.home = home
        self._environment = environment
        self._running = ExitStack()
        self.stack: Stack

    def start(self) -> Stack:
        keys = self.stack.keys if hasattr(self, "stack") else {}
        started = running_stack(self.home, "--latency", "0.3", **self._environment)
        self.stack = self._running.enter_context(started)
        self.stack.keys.update(keys)
        return self.stack

    def forget(self) -> None:
        """That it was started: it has ended."""
        self._running.close()


@pytest.fixture(scope="module")
def own(running: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    """Started in somebody's own folder and shell.

    The shell has evaluated `darkroom env` of another stack, which runs meanwhile, and has settings for another Prefect,
    another Postgres, proxies that lead nowhere, and packages that are called like ours.

    It is started three times in all, with two tests in between that end it.
    """
    exported = running.command("sh", "-c", f'eval "$({DARKROOM} env --home {running.home})"; env -0').stdout
    inherited = dict(pair.split("=", 1) for pair in exported.split("\0") if pair)
    for name in ("DARKROOM_HOME", *environment(running.project)):
        inherited.pop(name, None)
    folder = tmp_path_factory.mktemp("own")
    # The scale is the other stack's still, which goes with what is left out above.
    scale = running.environment["DARKROOM_TIME_SCALE"]
    shell = {**inherited, **hostile(folder / "modules"), "DARKROOM_PATIENCE": "60", "DARKROOM_TIME_SCALE": scale}
    own = Own(folder / "My Projects (100%)", shell)
    own.start()
    yield own
    own.forget()


@pytest.fixture
def here(own: Own) -> Stack:
    return own.stack


def answers(stack: Stack) -> bool:
    """The gateway says that all it needs is there, the provider answers, and Prefect has a worker."""
    try:
        stack.gateway.get("/readyz").raise_for_status()
        stack.simulator.get("/_sim/stats").raise_for_status()
        workers = stack.prefect.post("/work_pools/darkroom/workers/filter", json={}).raise_for_status().json()
    except httpx.HTTPError:
        return False
    return any(worker["status"] == "ONLINE" for worker in workers)


def below(pid: int) -> list[psutil.Process]:
    return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]


def gone(processes: list[psutil.Process]) -> bool:
    return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes)


# -- parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", KILLED)
def test_a_part_that_is_killed_comes_back_and_what_was_under_way_is_paid_once(here: Stack, part: str) -> None:
    """SIGKILL to the pid on file ends the part; another takes its place, and the next picture is made.

    The one that was at the provider meanwhile neither fails nor is forgotten. With the gateway gone its webhook comes
    to nobody: the provider tries again until somebody has committed it.
    """
    prompt = f"a fox under way without {part}"
    user = f"nobody else's {part}"  # with a run of their own
    here.misbehave(prompt, hold=True)
    job_id = here.order(prompt, user=user)
    wait_until(lambda: here.carried(job_id), timeout=60, every=0.05, what="the submit")
    flow_run_id = here.flow_run_id(job_id)
    before = psutil.Process(here.pid(part))
    before.kill()
    wait_until(lambda: gone([before]), timeout=10, what="its end")
    if part == "gateway":
        here.release(prompt)
    wait_until(lambda: here.pid(part) != before.pid, timeout=20, every=0.1, what="its successor")
    wait_until(lambda: answers(here), timeout=60, every=0.2, what="the stack to be whole again")
    if part != "gateway":
        here.release(prompt)
    assert here.ended(job_id, user=user, timeout=150)["status"] == "completed"
    assert len(here.at_provider(prompt)) == 1
    assert "Failed" not in here.history(flow_run_id)
    assert here.ended(here.order(f"a fox after {part}"), timeout=90)["status"] == "completed"


def test_every_part_says_what_it_does_in_a_log_of_its_own(here: Stack) -> None:
    """And none of them holds a key."""
    logs = {part: (here.home / "log" / f"{part}.log").read_text() for part in PARTS}
    assert "database system is ready" in logs["postgres"]
    assert "Worker 'local' started" in logs["worker"]
    for secret in ("PREFECT_API_AUTH_STRING", "DARKROOM_SIGNING_KEY"):
        assert not any(here.environment[secret] in log for log in logs.values())


def test_only_the_owner_can_read_what_is_secret(here: Stack) -> None:
    """Secrets, keys and what Prefect keeps: others may not even list the folder."""
    assert here.home.stat().st_mode & 0o066 == 0
    for name in ("secrets.env", "stack.env", "operator.key"):
        assert (here.home / name).stat().st_mode & 0o777 == 0o600
    for name in ("postgres", "prefect", "results", "log", "run"):
        assert (here.home / name).stat().st_mode & 0o777 == 0o700


def test_nothing_is_open_to_other_machines(here: Stack) -> None:
    """Every port is on loopback, and Postgres has none."""
    open_at: dict[str, set[str]] = {}
    for process in below(here.process.pid):
        with suppress(psutil.NoSuchProcess):  # a run's may end meanwhile
            found = open_at.setdefault(process.name(), set())
            found.update(connection.laddr.ip for connection in process.net_connections(kind="tcp"))
    assert "postgres" in open_at
    assert not open_at.pop("postgres")
    assert set().union(*open_at.values()) <= {"127.0.0.1"}


# -- start and end ----------------------------------------------------------------------------------------------------


def test_a_stack_that_is_killed_takes_everything_with_it_and_starts_again(own: Own) -> None:
    """SIGKILL leaves nobody to clean up: the kernel ends the parts, the janitor the runs, and the next start works.

    The provider has forgotten nothing: what was under way there ends, and is paid once.
    """
    stack = own.stack
    stack.misbehave("a slow fox", hold=True)
    job_id = stack.order("a slow fox")
    flow_run_id = stack.flow_run_id(job_id)
    wait_until(lambda: stack.flow_processes(flow_run_id), timeout=60, every=0.1, what="its process")
    wait_until(lambda: stack.at_provider("a slow fox"), timeout=60, every=0.1, what="its submission")
    stack.between_turns()
    family = below(stack.process.pid)
    stack.process.kill()
    stack.process.wait()
    wait_until(lambda: gone(family), timeout=45, every=0.1, what="the end of them all")
    own.forget()
    stack = own.start()
    assert stack.ended(stack.order("a fox after the end", user="bob"), user="bob")["status"] == "completed"
    (request,) = stack.at_provider("a slow fox")
    stack.simulator.post(f"/_sim/requests/{request['request_id']}/release").raise_for_status()
    assert stack.ended(job_id, timeout=180)["status"] == "completed"
    assert len(stack.at_provider("a slow fox")) == 1


def test_a_stack_that_is_ended_leaves_no_process_and_goes_on_where_it_was_with_the_next_start(own: Own) -> None:
    """SIGTERM leaves nothing, also not of a run under way: it goes on with its job, and nothing is paid twice.

    Jobs, keys and secrets are there again; the addresses may be others.
    """
    stack = own.stack
    first = stack.ended(stack.order("a fox that lasts"))
    stack.misbehave("a slower fox", hold=True)
    job_id = stack.order("a slower fox", user="zoe")
    flow_run_id = stack.flow_run_id(job_id)
    wait_until(lambda: stack.rows(job_id)[0].submitted_at, timeout=60, every=0.1, what="its submission")
    # The gateway may have sent it before there was a process.
    wait_until(lambda: stack.flow_processes(flow_run_id), timeout=60, every=0.1, what="its process")
    family = below(stack.process.pid)
    secrets = (own.home / "secrets.env").read_text()
    log = own.home / "log" / "worker.log"
    before = len(log.read_text())
    stack.process.send_signal(signal.SIGTERM)
    assert stack.process.wait(timeout=SLOW * 60) == 0
    assert gone(family)
    last_words = log.read_text()[before:]
    assert "Worker stopped!" in last_words and "Traceback" not in last_words
    own.forget()

    stack = own.start()
    wait_until(lambda: "Recovering" in stack.history(flow_run_id), timeout=90, every=0.2, what="its recovery")
    assert len(stack.rows(job_id)) == 1
    again = stack.job(first["id"])
    assert again["status"] == first["status"] == "completed"
    assert [asset["sha256"] for asset in again["assets"]] == [asset["sha256"] for asset in first["assets"]]
    assert (own.home / "secrets.env").read_text() == secrets
    assert stack.ended(stack.order("a fox after all"))["status"] == "completed"


def test_a_webhook_within_the_patience_ends_the_job_in_its_process(here: Stack) -> None:
    """A short wait is held in the process: no suspension. This stack has a patience that no machine outlasts."""
    job_id = here.order("a fox that comes soon", user="patient")
    flow_run_id = here.flow_run_id(job_id)
    job = here.ended(job_id, user="patient")
    assert (job["status"], job["requests"][0]["delivered_via"]) == ("completed", "webhook")
    assert "Suspended" not in here.history(flow_run_id)


def test_the_environment_of_another_stack_is_not_inherited(here: Stack, running: Stack) -> None:
    """A shell that evaluated `darkroom env` of one stack can start another, which gets addresses of its own."""
    assert here.environment["DARKROOM_GATEWAY_URL"] != running.environment["DARKROOM_GATEWAY_URL"]
    assert here.environment["DARKROOM_PUBLIC_URL"] == here.environment["DARKROOM_GATEWAY_URL"]
    assert here.ended(here.order("a fox elsewhere"))["requests"][0]["delivered_via"] == "webhook"
