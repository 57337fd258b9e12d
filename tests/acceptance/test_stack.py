"""`darkroom up` keeps its promises: parts come back, state lasts, nothing is left behind, mistakes are named."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest
from project_copy import environment
from running import DARKROOM, Stack, free_ports, hostile, running_stack
from support import SLOW, wait_until

PARTS = ("postgres", "prefect", "gateway", "worker", "simulator")


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


def up(home: Path, **ports: int) -> subprocess.CompletedProcess[str]:
    flags = [word for name, port in {**free_ports(), **ports}.items() for word in (f"--{name}", str(port))]
    return subprocess.run(
        [DARKROOM, "up", "--home", str(home), *flags], text=True, capture_output=True, timeout=SLOW * 30, env=bare()
    )


def bare() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("DARKROOM_", "PREFECT_", "FAL_"))}


def below(pid: int) -> list[psutil.Process]:
    return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]


def gone(processes: list[psutil.Process]) -> bool:
    return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes)


# -- parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_killed_comes_back(here: Stack, part: str) -> None:
    """SIGKILL to the pid on file ends the part; another takes its place, and the next picture is made."""
    before = psutil.Process(here.pid(part))
    before.kill()
    wait_until(lambda: gone([before]), timeout=10, what="its end")
    wait_until(lambda: here.pid(part) != before.pid, timeout=20, every=0.1, what="its successor")
    wait_until(lambda: answers(here), timeout=60, every=0.2, what="the stack to be whole again")
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
    open_at = {
        process.name(): {connection.laddr.ip for connection in process.net_connections(kind="tcp")}
        for process in below(here.process.pid)
    }
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


def test_a_port_that_is_taken_is_named_with_its_option(tmp_path: Path) -> None:
    """At once, and nothing was started."""
    for option in ("port", "prefect-port", "simulator-port"):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            number = taken.getsockname()[1]
            done = up(tmp_path / "home", **{option: number})
        assert done.returncode == 1
        assert done.stderr == f"darkroom: port {number} is taken: choose another with --{option}\n"


def test_two_stacks_in_one_folder_are_refused(here: Stack) -> None:
    """They would fight over one database."""
    done = up(here.home)
    assert done.returncode == 1
    assert "runs in" in done.stderr
    assert answers(here)


def test_a_webhook_within_the_patience_ends_the_job_in_its_process(here: Stack) -> None:
    """A short wait is held in the process: no suspension. This stack has a patience that no machine outlasts."""
    job_id = here.order("a fox that comes soon", user="patient")
    flow_run_id = here.flow_run_id(job_id)
    job = here.ended(job_id, user="patient")
    assert (job["status"], job["requests"][0]["delivered_via"]) == ("completed", "webhook")
    assert "Suspended" not in here.history(flow_run_id)


# -- commands ---------------------------------------------------------------------------------------------------------


def test_commands_find_the_stack_of_their_folder(here: Stack) -> None:
    """In the folder beside `.darkroom`, or with DARKROOM_HOME, nothing has to be exported."""
    environment = bare() | {"DARKROOM_HOME": str(here.home)}

    def darkroom(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [DARKROOM, *arguments], env=environment, text=True, capture_output=True, check=check, timeout=SLOW * 60
        )

    job = json.loads(darkroom("generate", "a fox, by command", "--image-size", "256x192", "--wait").stdout)
    assert job["status"] == "completed"
    assert [(asset["width"], asset["height"]) for asset in job["assets"]] == [(256, 192)]
    assert json.loads(darkroom("status", job["id"]).stdout)["id"] == job["id"]
    assert darkroom("why", job["id"]).stdout == "Nothing: it is completed.\n"
    refused = darkroom("generate", " ", check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("darkroom: ")
    assert refused.stderr.count("\n") == 1


def test_a_key_is_printed_once_and_alone(here: Stack) -> None:
    """So that it can be piped; rotating ends the old one, at once or after a while, revoking ends all."""
    first = here.command(DARKROOM, "user", "add", "eve").stdout.strip()
    second = here.command(DARKROOM, "user", "rotate", "eve").stdout.strip()
    third = here.command(DARKROOM, "user", "rotate", "eve", "--now").stdout.strip()
    assert "\n" not in first + second + third
    assert len({first, second, third}) == 3
    assert "eve" in here.command(DARKROOM, "user", "list").stdout

    def status(key: str) -> int:
        return here.gateway.get("/v1/jobs", headers={"Authorization": f"Bearer {key}"}).status_code

    assert (status(first), status(second), status(third)) == (401, 401, 200)
    here.command(DARKROOM, "user", "revoke", "eve")
    assert status(third) == 401
    again = here.command(DARKROOM, "user", "add", "eve", check=False)
    assert again.returncode == 1
    assert "exists" in again.stderr


def test_plans_and_accounts_change_while_everything_runs(here: Stack) -> None:
    """Unknown plans are made; caps are kept by endpoint."""
    here.command(DARKROOM, "plan", "set", "team", "--in-flight", "5", "--weight", "1.5", "--daily-budget", "20")
    here.command(DARKROOM, "user", "add", "mia", "--plan", "team")
    plan = here.ledger.users.plan_of(here.ledger.users.find("mia").id)
    assert (plan.in_flight, str(plan.weight.normalize()), plan.daily_budget_usd) == (5, "1.5", 20)
    here.command(DARKROOM, "account", "set", "fal", "--slots", "12", "--endpoint", "openai/gpt-image-2=10")
    account = here.ledger.users.account()
    assert (account.slots, account.endpoint_caps["openai/gpt-image-2"]) == (12, 10)


def test_the_environment_of_another_stack_is_not_inherited(here: Stack, running: Stack) -> None:
    """A shell that evaluated `darkroom env` of one stack can start another, which gets addresses of its own."""
    assert here.environment["DARKROOM_GATEWAY_URL"] != running.environment["DARKROOM_GATEWAY_URL"]
    assert here.environment["DARKROOM_PUBLIC_URL"] == here.environment["DARKROOM_GATEWAY_URL"]
    assert here.ended(here.order("a fox elsewhere"))["requests"][0]["delivered_via"] == "webhook"
