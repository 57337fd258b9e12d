"""A Prefect server as the local stack runs it, provisioned, without worker and gateway."""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from forked import start_forked
from support import SLOW, free_port, wait_until

from darkroom.clock import utc_now
from darkroom.deployments.home import Home
from darkroom.deployments.stack.environment import callers_own, client_settings, inherited
from darkroom.deployments.stack.options import StackOptions
from darkroom.deployments.stack.parts import Part, all_parts
from darkroom.deployments.stack.postgres import cluster_in
from darkroom.deployments.stack.processes import end, spawn
from darkroom.deployments.stack.template import cache_folder, make_databases
from darkroom.orchestrator.api import PrefectApi

PROVISION = "darkroom.deployments.provision"
TO_DEPLOY = ("darkroom.deployments.prefect_yaml", "darkroom.providers.prefect_blocks", "darkroom.flows.process_order")

SERVER = {
    "PREFECT_SERVER_LOGGING_LEVEL": "INFO",  # with the log of its requests
    # A worker that polls in an hour is told of what is late, too: not so soon that it stands in for the rest.
    "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "60",
}


@dataclass(frozen=True, kw_only=True)
class PrefectServer:
    home: Path
    environment: dict[str, str]
    api: PrefectApi

    @property
    def url(self) -> str:
        """Of its UI."""
        return self.environment["PREFECT_API_URL"].removesuffix("/api")

    def provision(self, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """`darkroom provision`, against this server."""
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            given = self.environment | environment
            process = start_forked(
                PROVISION, *arguments, environment=given, output=output, errors=errors, beside=TO_DEPLOY
            )
            status = process.wait(SLOW * 60)
            output.seek(0)
            errors.seek(0)
            done = subprocess.CompletedProcess(arguments, status, output.read(), errors.read())
        if check:
            done.check_returncode()
        return done

    @contextmanager
    def with_another_key(self) -> Iterator[PrefectApi]:
        """A second server on the same database, as somebody starts it who has another key."""
        key = base64.urlsafe_b64encode(os.urandom(32)).decode()
        with self.second(PREFECT_SERVER_ENCRYPTION_KEY=key) as api:
            yield api

    @contextmanager
    def second(self, **environment: str) -> Iterator[PrefectApi]:
        """A second server on the same database."""
        port = free_port()
        part = self.part("prefect", prefect_port=port)
        with _running(replace(part, environment={**part.environment, **environment}), Home(self.home)):
            url = f"http://127.0.0.1:{port}/api"
            with contextlib.closing(PrefectApi(url, auth=self.environment["PREFECT_API_AUTH_STRING"])) as api:
                yield api

    def part(self, name: str, **options: Any) -> Part:
        home = Home(self.home)
        chosen = StackOptions(home=home.path, **options)
        parts = all_parts(chosen, home=home, cluster=cluster_in(home.postgres), base=callers_own(os.environ))
        return next(part for part in parts if part.name == name)

    def run(
        self, command: list[str], *, check: bool = True, cwd: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env=self.environment | environment,
            cwd=cwd,
            check=check,
            text=True,
            capture_output=True,
            timeout=SLOW * 60,
        )

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        return self.api.call(method, path, **arguments)


@contextmanager
def running_prefect() -> Iterator[PrefectServer]:
    with tempfile.TemporaryDirectory(prefix="darkroom-tests-") as folder:
        home = Home(Path(folder) / "home")
        home.prepare()
        options = StackOptions(home=home.path, port=free_port(), prefect_port=free_port(), simulator_port=free_port())
        base = callers_own(os.environ | SERVER)
        make_databases(home.postgres, cache=cache_folder(base))
        cluster = cluster_in(home.postgres)
        settings = client_settings(options, home=home, cluster=cluster, base=base)
        home.record_environment(settings)
        parts = {part.name: part for part in all_parts(options, home=home, cluster=cluster, base=base)}
        with _running(parts["postgres"], home), _running(parts["prefect"], home):
            api = PrefectApi(settings["PREFECT_API_URL"], auth=settings["PREFECT_API_AUTH_STRING"])
            server = PrefectServer(home=home.path, environment=inherited(base) | settings, api=api)
            with contextlib.closing(api):
                server.provision()
                yield server


@contextmanager
def _running(part: Part, home: Home) -> Iterator[None]:
    since = utc_now()
    process = spawn(
        part.command,
        environment=part.environment,
        log=home.log_file(part.name),
        folder=part.folder,
        death_signal=part.death_signal,
        identity=part.identity,
    )
    try:
        wait_until(lambda: part.ready(since), timeout=60, every=0.1, what=f"{part.name}, see {home.log}")
        yield
    finally:
        end([psutil.Process(process.pid)], how=part.stop_signal, grace_seconds=part.grace_seconds)
        process.wait()
