"""W5: how many webhooks a gateway takes on one core: verified, committed, answered.

The gateway is the real process on the real database, held to one core; everything else has the others. The webhooks are
signed with the provider's key, each settles a row in flight, and they come over kept connections as fast as they are
answered. `/healthz` of the same gateway, asked in the same way, is what a request costs that does nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from support import free_port, wait_until

from benchmarks.contestants import Rows, answers, rows_of, running_cluster, running_process
from benchmarks.figures import percentile
from benchmarks.meters import cpu_seconds, machine_seconds, own_cpu_seconds, processes
from benchmarks.provider import Provider
from darkroom.deployments.simulator.environment import USER_ID
from darkroom.deployments.simulator.signing import SigningKeys, signed_headers
from darkroom.ledger import migrate

CONNECTIONS = 32
USERS = 20  # each with one run: webhooks for one run are taken one after the other
WARM_UP = 200
NOWHERE = "http://127.0.0.1:9/api"
GATEWAY, POSTGRES = "gateway", "postgres"

_IN_FLIGHT = """
    INSERT INTO "user" (id, name, plan, notified, created_at)
    SELECT %(set)s || 'u' || n, %(set)s || 'user ' || n, 'studio', 0, now() FROM generate_series(1, %(users)s) AS n;
    INSERT INTO run (id, user_id, kind, shared, flow_run_id, created_at, alive_until)
    SELECT %(set)s || 'run' || n, %(set)s || 'u' || n, 'generate-image', true, gen_random_uuid(), now(),
        now() + interval '1 hour'
    FROM generate_series(1, %(users)s) AS n;
    INSERT INTO job (id, user_id, kind, status, run_id, parameters, created_at)
    SELECT %(set)s || 'j' || n, %(set)s || 'u' || 1 + n %% %(users)s, 'generate-image', 'running',
        %(set)s || 'run' || 1 + n %% %(users)s, '{}', now()
    FROM generate_series(1, %(rows)s) AS n;
    INSERT INTO request (ref, job_id, user_id, account_id, step, attempt, endpoint, input, input_hash, lane, status,
        token, request_id, estimate_usd, created_at, granted_at, submitted_at, accepted_at, deadline_at)
    SELECT %(set)s || 'r' || n, %(set)s || 'j' || n, %(set)s || 'u' || 1 + n %% %(users)s, 'fal', 'generate', 1,
        'fal-ai/flux/dev', '{"prompt": "a fox"}', '', 1, 'in_flight', md5(%(set)s || n), gen_random_uuid(), 0.025,
        now(), now(), now(), now(), now() + interval '1 hour'
    FROM generate_series(1, %(rows)s) AS n;
"""
_CALLBACKS = "SELECT request_id, token FROM request WHERE status = 'in_flight'"
_SETTLED = "SELECT count(*) AS n FROM delivery WHERE verdict = 'settled'"
_sets = count(1)


@dataclass(frozen=True, kw_only=True)
class TokenBucket:
    """One round of requests, over so many connections at once."""

    requests: int
    connections: int
    per_second: float
    p50_ms: float
    p95_ms: float
    cpu_ms: Mapping[str, float]  # for each request, by part
    gateway_cores: float  # 1: it had no more to give
    driver_cores: float
    other_cores: float


@dataclass(frozen=True, kw_only=True)
class Webhooks:
    taken: Sequence[TokenBucket]  # rounds
    one_by_one: TokenBucket
    health: TokenBucket

    @property
    def typical(self) -> TokenBucket:
        return sorted(self.taken, key=lambda pace: pace.per_second)[len(self.taken) // 2]

    @property
    def to_health(self) -> float:
        """CPU of the gateway for a webhook ÷ for a request that does nothing."""
        return self.typical.cpu_ms[GATEWAY] / self.health.cpu_ms[GATEWAY]


def webhooks(home: Path, provider: Provider, *, requests: int, rounds: int) -> Webhooks:
    cores = sorted(os.sched_getaffinity(0))
    with _held_to(cores[1:] or cores), running_cluster(home) as cluster:
        migrate(cluster.url)
        with rows_of(cluster.url) as rows, _gateway(home, provider, cluster.url, core=cores[0]) as gateway:
            target = _Target(port=gateway.port, rows=rows, keys=SigningKeys(provider.home))
            pids = {GATEWAY: gateway.pid, POSTGRES: cluster.pid}
            _pace(pids, target.webhooks(WARM_UP), port=gateway.port, connections=CONNECTIONS)
            return Webhooks(
                health=_pace(pids, target.health(requests), port=gateway.port, connections=CONNECTIONS),
                one_by_one=_pace(pids, target.webhooks(WARM_UP), port=gateway.port, connections=1),
                taken=[
                    _pace(pids, target.webhooks(requests), port=gateway.port, connections=CONNECTIONS)
                    for _ in range(rounds)
                ],
            )


@dataclass(frozen=True, kw_only=True)
class _Gateway:
    pid: int
    port: int


@contextmanager
def _gateway(home: Path, provider: Provider, ledger_url: str, *, core: int) -> Iterator[_Gateway]:
    port = free_port()
    environment = {
        **os.environ,
        **provider.environment(),
        "DARKROOM_HOME": str(home),
        "DARKROOM_LEDGER_URL": ledger_url,
        "DARKROOM_SIGNING_KEY": "a long random text",
        "PREFECT_API_URL": NOWHERE,  # none of these runs has left, so nobody has to be told at Prefect
    }
    command = [sys.executable, "-m", "darkroom.deployments.gateway", "--port", str(port)]
    with ExitStack() as opened:
        log = opened.enter_context((home / "gateway.log").open("w"))
        with _held_to([core]):
            started = running_process(command, signal.SIGTERM, env=environment, stderr=log)
            gateway = opened.enter_context(started)
        wait_until(lambda: answers(port), timeout=60, every=0.1, what=f"the gateway, see {log.name}")
        yield _Gateway(pid=gateway.pid, port=port)


@contextmanager
def _held_to(cores: Sequence[int]) -> Iterator[None]:
    """This thread, and every process that it starts meanwhile, with all their threads."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True, kw_only=True)
class _Target:
    """Makes requests, byte for byte, before they are sent: then sending them takes next to nothing."""

    port: int
    rows: Rows
    keys: SigningKeys

    def health(self, number: int) -> list[bytes]:
        return [self._request("GET", "/healthz", {}, b"")] * number

    def webhooks(self, number: int) -> list[bytes]:
        """Each for a row of its own that has just been made; in no order."""
        values = {"set": f"s{next(_sets)}-", "users": USERS, "rows": number}
        with self.rows.cursor() as cursor:
            for statement in _IN_FLIGHT.split(";")[:-1]:
                cursor.execute(statement, values)
        self.rows.execute("ANALYZE")
        callbacks = [self._webhook(**row) for row in self.rows.execute(_CALLBACKS)]
        random.shuffle(callbacks)
        assert len(callbacks) == number
        return callbacks

    def _webhook(self, request_id: str, token: str) -> bytes:
        picture = {"url": f"https://v3.fal.media/files/{request_id}.jpg", "width": 1024, "height": 768}
        payload = {"images": [{**picture, "content_type": "image/jpeg"}], "seed": 7, "prompt": "a fox"}
        envelope = {"request_id": request_id, "gateway_request_id": request_id, "status": "OK", "payload": payload}
        body = json.dumps(envelope).encode()
        headers = signed_headers(
            body, key=self.keys.current, request_id=request_id, user_id=USER_ID, timestamp=int(time.time())
        )
        return self._request("POST", f"/webhooks/fal?token={token}", headers, body)

    def _request(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", f"Content-Length: {len(body)}"]
        lines += ["Content-Type: application/json", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + body


def _pace(pids: Mapping[str, int], requests: Sequence[bytes], *, port: int, connections: int) -> TokenBucket:
    def used() -> tuple[float, float, float, dict[str, float]]:
        return time.perf_counter(), own_cpu_seconds(), machine_seconds(), cpu_seconds(processes(), pids)

    before = used()
    seconds = asyncio.run(_send_all(requests, port=port, connections=connections))
    after = used()
    wall, driver, machine = (end - start for start, end in zip(before[:3], after[:3], strict=True))
    cpu = {part: after[3][part] - before[3][part] for part in pids}
    return TokenBucket(
        requests=len(requests),
        connections=connections,
        per_second=len(requests) / wall,
        p50_ms=1000 * percentile(seconds, 50),
        p95_ms=1000 * percentile(seconds, 95),
        cpu_ms={part: 1000 * seconds / len(requests) for part, seconds in cpu.items()},
        gateway_cores=cpu[GATEWAY] / wall,
        driver_cores=driver / wall,
        other_cores=max(0.0, machine - driver - sum(cpu.values())) / wall,
    )


async def _send_all(requests: Sequence[bytes], *, port: int, connections: int) -> list[float]:
    """How long each answer took. Raises for one that is not 200."""
    waiting = iter(requests)
    async with AsyncExitStack() as opened:
        ends = []
        for _ in range(connections):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            opened.callback(writer.close)
            ends.append((reader, writer))
        shares = await asyncio.gather(*(_send(reader, writer, waiting) for reader, writer in ends))
    return [seconds for share in shares for seconds in share]


async def _send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, waiting: Iterator[bytes]) -> list[float]:
    seen = []
    for request in waiting:
        began = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
        seen.append(time.perf_counter() - began)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"answered with {head[:20]!r} {body!r}")
    return seen
