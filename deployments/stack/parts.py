"""The parts of a local stack: how each is started, what must be there before, and how one knows that it works."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import httpx

from darkroom.deployments.home import Home
from darkroom.deployments.stack.environment import inherited, server_environment, worker_settings
from darkroom.deployments.stack.options import LOOPBACK, Provider, StackOptions, WorkerType
from darkroom.deployments.stack.postgres import Cluster, Identity
from darkroom.deployments.stack.template import cache_folder, is_there, note_migrated
from darkroom.orchestrator import WORK_POOL
from darkroom.settings import timing_of
from darkroom.timing import ANSWER_PATIENCE, SUBMIT_PATIENCE

WORKER_NAME = "local"
PROBE_SECONDS = 2.0
# Each connection is a process, and of what a statement has freed glibc keeps some with it: a tenth of all in a burst.
GIVE_BACK = {"MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_TOP_PAD_": "16384", "MALLOC_MMAP_THRESHOLD_": "131072"}


@dataclass(frozen=True, kw_only=True)
class Part:
    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    # Called with the time of the part's last start.
    ready: Callable[[datetime], bool]
    when_ready: Callable[[], None] = lambda: None
    # Where it answers. Another stack may have taken the port since we looked, and would answer in its place.
    port: int | None = None
    needs: frozenset[str] = frozenset()
    run_once: bool = False
    # Prefect reads `.env`, `prefect.toml` and `pyproject.toml` where it starts: nobody's are here.
    folder: Path = Path("/")
    identity: Identity = field(default_factory=Identity)
    stop_signal: signal.Signals = signal.SIGTERM
    # What the kernel sends it when we are killed.
    death_signal: signal.Signals = signal.SIGKILL
    grace_seconds: float = 5.0
    # Its children are flow runs, and it would kill them without asking. They are told before it is, so that they can
    # still say that they crashed, and reconcile puts them back as soon as the stack is up again.
    carries_runs: bool = False


def all_parts(options: StackOptions, *, home: Home, cluster: Cluster, base: Mapping[str, str]) -> list[Part]:
    """Define the parts in the order in which they start; they end in reverse.

    What makes the databases is among them where there are none yet.
    """
    databases = [] if is_there(cluster.data) else [_databases(cluster, environment=inherited(base))]
    common = inherited(base)
    client = {**common, **home.environment()}
    server = {**common, **server_environment(options, home=home, cluster=cluster)}
    probe = Probe(options, auth=home.secrets()["PREFECT_API_AUTH_STRING"])
    public_url = client.get("DARKROOM_PUBLIC_URL", "")
    simulated = [_simulator(options, home=home, environment=common, probe=probe, public_url=public_url)]
    return [
        *databases,
        _postgres(
            cluster,
            environment=common,
            needs=frozenset(part.name for part in databases),
            when_ready=cluster.drop_prefect_blocks if options.new_secrets else lambda: None,
        ),
        _prefect(options, environment=server, cluster=cluster, probe=probe),
        _provision(home=home, environment=client),
        *(simulated if options.provider is Provider.SIMULATED else []),
        _gateway(options, environment=client, probe=probe),
        _worker(
            options,
            home=home,
            environment={**client, **worker_settings(options, home=home, timing=timing_of(base))},
            probe=probe,
        ),
    ]


class Probe:
    """Asks the parts over HTTP whether they work."""

    def __init__(self, options: StackOptions, *, auth: str) -> None:
        self._options = options
        user, _, password = auth.partition(":")
        # Our own parts are on this machine, whatever proxy the caller's environment names.
        # None is kept open: the parts may be restarted at any time.
        self._http = httpx.Client(
            timeout=PROBE_SECONDS,
            trust_env=False,
            auth=(user, password),
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def answers(self, url: str) -> bool:
        try:
            return self._http.get(url).is_success
        except httpx.TransportError:
            return False

    def worker_online(self, since: datetime) -> bool:
        """Tell whether the worker has sent a heartbeat since then."""
        # One of this start: Prefect shows a worker that was killed as online for a while.
        try:
            workers = self._http.post(f"{self._options.prefect_url}/api/work_pools/{WORK_POOL}/workers/filter", json={})
        except httpx.TransportError:
            return False
        if not workers.is_success:
            return False
        return any(
            worker["name"] == WORKER_NAME and datetime.fromisoformat(worker["last_heartbeat_time"]) >= since
            for worker in workers.json()
        )


def _module(name: str, *arguments: str) -> list[str]:
    # -P: not with the folder it starts in on the path, where the library's own modules would be taken for others.
    return [sys.executable, "-P", "-m", name, *arguments]


def _databases(cluster: Cluster, *, environment: Mapping[str, str]) -> Part:
    cache = cache_folder(environment)
    return Part(
        name="database",
        command=_module("darkroom.deployments.stack.template", str(cluster.data), "--cache", str(cache)),
        environment=environment,
        ready=lambda _: False,
        run_once=True,
    )


def _postgres(
    cluster: Cluster, *, environment: Mapping[str, str], needs: frozenset[str], when_ready: Callable[[], None]
) -> Part:
    return Part(
        name="postgres",
        when_ready=when_ready,
        needs=needs,
        command=cluster.command(),
        environment={**GIVE_BACK, **environment},
        ready=lambda _: cluster.answers(),
        folder=cluster.data,
        identity=cluster.identity,
        # "Fast" shutdown: sessions are ended, nothing needs recovery at the next start.
        stop_signal=signal.SIGINT,
        death_signal=signal.SIGINT,
        grace_seconds=15,
    )


def _prefect(options: StackOptions, *, environment: Mapping[str, str], cluster: Cluster, probe: Probe) -> Part:
    """Define Prefect's server."""
    # uvicorn itself, not `prefect server start`: so nothing stands between the pid we know and the server.
    arguments = ["--factory", "--host", LOOPBACK, "--port", str(options.prefect_port)]
    limits = ["--timeout-keep-alive", "5", "--timeout-graceful-shutdown", "2"]
    return Part(
        name="prefect",
        command=_module("uvicorn", "darkroom.deployments.stack.prefect_server:create_app", *arguments, *limits),
        environment={"UVICORN_LOG_LEVEL": "warning", **environment},
        ready=lambda _: probe.answers(f"{options.prefect_url}/api/health"),
        port=options.prefect_port,
        needs=frozenset({"postgres"}),
        when_ready=lambda: note_migrated(cluster.data),
        grace_seconds=8,
    )


def _provision(*, home: Home, environment: Mapping[str, str]) -> Part:
    """Define the part that provisions. It starts beside Prefect's server."""
    # Its imports and the ledger's migrations take as long as the server needs to answer.
    return Part(
        name="provision",
        command=_module("darkroom.deployments.provision"),
        environment=environment,
        ready=lambda _: False,
        needs=frozenset({"postgres"}),
        when_ready=home.provisioned.touch,
        run_once=True,
    )


def _simulator(
    options: StackOptions, *, home: Home, environment: Mapping[str, str], probe: Probe, public_url: str
) -> Part:
    """Mux is told its webhook's address once and for all, and not with each call as fal is."""
    place = ["--port", str(options.simulator_port), "--home", str(home.simulator)]
    latencies = [argument for each in options.latencies_of for argument in ("--latency-of", each)]
    webhooks = ["--mux-webhook-url", f"{public_url.rstrip('/')}/webhooks/mux"] if public_url else []
    return Part(
        name="simulator",
        command=_module(
            "darkroom.deployments.simulator", *place, "--latency", str(options.latency_seconds), *latencies, *webhooks
        ),
        environment=environment,
        ready=lambda _: probe.answers(f"http://{LOOPBACK}:{options.simulator_port}/_sim/stats"),
        port=options.simulator_port,
    )


def _gateway(options: StackOptions, *, environment: Mapping[str, str], probe: Probe) -> Part:
    """Define the gateway, which starts beside everything else: `/readyz` says what it has yet to wait for."""
    return Part(
        name="gateway",
        command=_module("darkroom.deployments.gateway", "--host", LOOPBACK, "--port", str(options.port)),
        environment=environment,
        ready=lambda _: probe.answers(f"{options.gateway_url}/readyz"),
        port=options.port,
        grace_seconds=15 + SUBMIT_PATIENCE.total_seconds(),  # for answers under way, then for the calls that it sends
    )


def _worker(options: StackOptions, *, home: Home, environment: Mapping[str, str], probe: Probe) -> Part:
    """Define the worker. The warm one imports beside everything else, and takes no run before all is provisioned.

    Prefect's own needs all to be there. In a home of an earlier version, deployments lead to that version's flows, and
    the ledger has its tables, until then.
    """
    warm = options.worker_type is WorkerType.WARM
    start = ["worker", "start", "--pool", WORK_POOL, "--type", options.worker_type, "--name", WORKER_NAME]
    return Part(
        name="worker",
        command=_module("darkroom.deployments.worker", "--name", WORKER_NAME, "--after", str(home.provisioned))
        if warm
        else _module("prefect", *start),
        environment=environment,
        ready=probe.worker_online,
        carries_runs=not warm,
        needs=frozenset() if warm else frozenset({"prefect", "provision"}),
        grace_seconds=15 + ANSWER_PATIENCE.total_seconds(),  # it ends at once, but for paid calls under way
    )
