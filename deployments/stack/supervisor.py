"""`darkroom up`: starts the parts as their needs are met, restarts one that dies, and ends them all in order.

One loop in the main thread looks at every part several times a second; everything that happens to a part happens there.
The parts keep nothing in us, so the restart of one is no concern of the others.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import psutil

from darkroom.clock import utc_now
from darkroom.deployments.home import Home
from darkroom.deployments.kernel import adopt_orphans
from darkroom.deployments.stack.environment import callers_own, client_settings
from darkroom.deployments.stack.forks import Fork, can_fork, fork, import_shared
from darkroom.deployments.stack.options import LOOPBACK, StackOptions
from darkroom.deployments.stack.parts import Part, all_parts
from darkroom.deployments.stack.postgres import cluster_in
from darkroom.deployments.stack.processes import (
    MARK,
    any_is_dead,
    below,
    end,
    left_behind,
    listens,
    marked,
    new_mark,
    spawn,
)
from darkroom.deployments.stack.template import cache_folder, copy_template, is_there
from darkroom.errors import DarkroomError, NeedsHuman
from darkroom.settings import forget_libpq, timing_of
from darkroom.timing import ANSWER_PATIENCE, Timing

TICK_SECONDS = 0.15
PROBE_EVERY = timedelta(seconds=0.5)  # a part that starts is asked over HTTP, and to answer costs what it starts with
REAP_EVERY = timedelta(seconds=5)
LONG_AGO = datetime.min.replace(tzinfo=UTC)
# It only ends what hangs: a busy machine takes minutes, and each part says when it is up.
START_DEADLINE = timedelta(minutes=10)
# A part that ends this often before the stack was ever ready will not come up.
ATTEMPTS_TO_START = 4
SLOW_END_SECONDS = 8.0  # most parts take less to end
# A run that is told to end still reports that to Prefect.
RUN_GRACE_SECONDS = 5.0
# … and first, where no warm worker looks after it, has the answers of its paid calls under way.
PAYING_RUN_GRACE_SECONDS = RUN_GRACE_SECONDS + ANSWER_PATIENCE.total_seconds()


class StartFailed(DarkroomError):
    """A part does not come up. Its log says why."""


@dataclass(kw_only=True)
class Running:
    """A part and its outcome."""

    part: Part
    timing: Timing
    process: subprocess.Popen[bytes] | Fork | None = None
    started_at: datetime = LONG_AGO
    ready: bool = False
    endings: int = 0
    not_before: datetime = LONG_AGO
    next_probe: datetime = LONG_AGO
    pause: timedelta = field(init=False)

    def __post_init__(self) -> None:
        self.pause = self.timing.first_restart

    def ended(self) -> None:
        self.process, self.ready = None, False
        self.endings += 1
        if utc_now() - self.started_at > self.timing.part_well:
            self.pause = self.timing.first_restart
        self.not_before = utc_now() + self.pause
        self.pause = min(self.pause * 2, self.timing.longest_restart)


class Stack:
    """The parts under one roof. `on_ready` is called once, in the loop, when all of them answer.

    `mark`: the one in our own environment, from `begin_anew`; parts are forks of ours then, until one has died.
    """

    def __init__(
        self,
        options: StackOptions,
        *,
        base: Mapping[str, str] | None = None,
        mark: str | None = None,
        say: Callable[[str], None] = print,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self.options = options
        self.home = Home(options.home)
        self._base = callers_own(os.environ if base is None else base)
        self._timing = timing_of(self._base)
        self._say = say
        self._on_ready = on_ready
        self._announced = False
        self._stop = threading.Event()
        self._parts: dict[str, Running] = {}
        self._forks = mark is not None
        self._mark = mark or new_mark(self.home.path)
        self._janitor: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        """Ask `run` to end everything and return. From any thread or signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Run until `stop` or SIGINT/SIGTERM. Raises `NeedsHuman` or `StartFailed` when the stack cannot be had."""
        forget_libpq()
        self.home.prepare()
        with self.home.lock(), _signals_call(self.stop):
            end(marked(lambda mark: mark.startswith(f"{self.home.path}#")), grace_seconds=RUN_GRACE_SECONDS)
            _require_free_ports(self.options)
            adopt_orphans()
            with self._watched_by_janitor():
                self._prepare()
                try:
                    self._supervise()
                finally:
                    self._end_all()
                    cluster_in(self.home.postgres).remove_sockets()

    @contextlib.contextmanager
    def _watched_by_janitor(self) -> Iterator[None]:
        command = [sys.executable, "-P", "-m", "darkroom.deployments.stack.janitor", self._mark]
        unmarked = {name: value for name, value in os.environ.items() if name != MARK}
        with subprocess.Popen(
            command, env=unmarked, stdin=subprocess.PIPE, cwd="/", start_new_session=True
        ) as self._janitor:
            yield  # then its input is closed, and it is waited for

    def _have_secrets(self) -> None:
        """Make them once. Raise NeedsHuman where the database has outlived them."""
        if self.options.new_secrets:
            self.home.renew_secrets()
        elif is_there(self.home.postgres) and not self.home.secrets_file.exists():
            raise NeedsHuman(
                f"{self.home.secrets_file} is gone, and in it PREFECT_SERVER_ENCRYPTION_KEY, with which the accounts' "
                "keys in Prefect's blocks are encrypted: bring the file back. Without it those keys are lost: "
                "`darkroom up --new-secrets` writes the blocks anew, from FAL_KEY and its like"
            )
        self.home.secrets()

    def _prepare(self) -> None:
        self._have_secrets()
        if not is_there(self.home.postgres) and not copy_template(self.home.postgres, cache=cache_folder(self._base)):
            self._say("making the databases first: once for each version, it takes half a minute")
        cluster = cluster_in(self.home.postgres)
        settings = client_settings(self.options, home=self.home, cluster=cluster, base=self._base)
        self.home.record_environment(settings)
        self.home.provisioned.unlink(missing_ok=True)
        if self._forks:
            import_shared()
        parts = all_parts(self.options, home=self.home, cluster=cluster, base=self._base)
        self._parts = {part.name: Running(part=part, timing=self._timing) for part in parts}

    def _supervise(self) -> None:
        deadline, next_reap = utc_now() + START_DEADLINE, utc_now()
        while not self._stop.wait(TICK_SECONDS):
            for running in self._parts.values():
                self._look_at(running)
            if not self._announced:
                self._look_at_the_whole(deadline)
            if utc_now() > next_reap:
                if any_is_dead():
                    left_behind(self._pids())
                next_reap = utc_now() + REAP_EVERY

    def _look_at_the_whole(self, deadline: datetime) -> None:
        missing = [name for name, running in self._parts.items() if not running.ready]
        if not missing:
            self._announced = True
            self._on_ready()
        elif utc_now() > deadline:
            raise StartFailed("; ".join(f"{name} is not ready: {self._last_words(name)}" for name in missing))

    def _look_at(self, running: Running) -> None:
        if running.process is None:
            if self._may_start(running):
                self._start(running)
        elif (code := running.process.poll()) is not None:
            self._ended(running, code)
        elif not running.ready and utc_now() >= running.next_probe:
            running.next_probe = utc_now() + PROBE_EVERY
            if _answers(running.part, running.process.pid, running.started_at):
                self._is_ready(running)

    def _is_ready(self, running: Running) -> None:
        running.ready = True
        running.part.when_ready()
        if not self._announced:
            done = "is done" if running.part.run_once else "is up"
            self._say(f"{running.part.name} {done} ({(utc_now() - running.started_at).total_seconds():.1f} s)")

    def _may_start(self, running: Running) -> bool:
        if running.ready or utc_now() < running.not_before:  # ready without a process: it ran once, and that was all
            return False
        return all(self._parts[name].ready for name in running.part.needs)

    def _start(self, running: Running) -> None:
        part, environment = running.part, {**running.part.environment, MARK: self._mark}
        log = self.home.log_file(part.name)
        running.started_at = utc_now()
        if self._forks and not running.endings and can_fork(part.command):
            running.process = fork(
                part.command,
                name=part.name,
                environment=environment,
                log=log,
                folder=part.folder,
                death_signal=part.death_signal,
            )
        else:
            running.process = spawn(
                part.command,
                environment=environment,
                log=log,
                folder=part.folder,
                death_signal=part.death_signal,
                identity=part.identity,
            )
        if not part.run_once:
            whole = self.home.pid_file(part.name).with_suffix(".new")
            whole.write_text(f"{running.process.pid}\n")
            whole.replace(self.home.pid_file(part.name))  # whoever reads it meanwhile finds a number

    def _ended(self, running: Running, code: int) -> None:
        name, pause = running.part.name, running.pause
        running.ended()
        if running.part.run_once and code == 0:
            self._is_ready(running)
            return
        if not self._announced and (running.part.run_once or running.endings >= ATTEMPTS_TO_START):
            raise StartFailed(f"{name} does not start: {self._last_words(name)}")
        self._say(f"{name} ended ({_how(code)}); starting it again in {pause.total_seconds():g} s")

    def _end_all(self) -> None:
        """End those first that use the others."""
        for running in reversed(self._parts.values()):
            if running.process is not None:
                self._end(running.process.pid, running.part)
            self.home.pid_file(running.part.name).unlink(missing_ok=True)

    def _end(self, pid: int, part: Part) -> None:
        if part.carries_runs:
            end(below(pid), grace_seconds=PAYING_RUN_GRACE_SECONDS)
        children = below(pid)
        with contextlib.suppress(psutil.NoSuchProcess), self._telling_of_a_slow_end(part):
            end([psutil.Process(pid)], how=part.stop_signal, grace_seconds=part.grace_seconds)
        end([*children, *left_behind(self._pids())], grace_seconds=RUN_GRACE_SECONDS)

    @contextlib.contextmanager
    def _telling_of_a_slow_end(self, part: Part) -> Iterator[None]:
        """Say why one waits, where a part takes its time."""
        words = f"waiting for {part.name} to end what is under way, {part.grace_seconds:g} s at most"
        telling = threading.Timer(SLOW_END_SECONDS, self._say, [words])
        telling.start()
        try:
            yield
        finally:
            telling.cancel()

    def _pids(self) -> set[int]:
        """Return our children that are meant to be."""
        parts = {running.process.pid for running in self._parts.values() if running.process}
        return parts | ({self._janitor.pid} if self._janitor else set())

    def _last_words(self, name: str) -> str:
        log = self.home.log_file(name)
        spoken = last_words(log.read_text(errors="replace")) if log.exists() else ""
        return f"{spoken or 'no output'} (all of it in {log})"


def last_words(log: str) -> str:
    """Return the last line of a log, with those below it that are indented: pydantic names what is wrong in them."""
    spoken: list[str] = []
    for line in reversed([each for each in log.split("\n") if each.strip() and "For further information" not in each]):
        spoken.insert(0, line.strip())
        if not line[0].isspace():
            break
    return " ".join(spoken)


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _require_free_ports(options: StackOptions) -> None:
    for option, port in options.ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError as error:
                raise NeedsHuman(f"port {port} is taken: choose another with {option}") from error


def _answers(part: Part, pid: int, started_at: datetime) -> bool:
    return (part.port is None or listens(pid, part.port)) and part.ready(started_at)


@contextlib.contextmanager
def _signals_call(stop: Callable[[], None]) -> Iterator[None]:
    before = {each: signal.signal(each, lambda *_: stop()) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
