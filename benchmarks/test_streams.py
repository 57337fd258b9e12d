"""Two thousand open streams on one gateway: what each costs, and how soon the last reader hears of what happens."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from integration.running_gateway import NO_PREFECT, gateway_process
from ledger_databases import running_postgres

from darkroom.ledger import JobStatus, Ledger, NewKey

USERS, STREAMS_OF_ONE = 20, 100
IDLE_SECONDS = 20.0
JOBS, JOBS_A_SECOND = 500, 25  # each is news twice: ordered, and ended
MOST_KB_A_STREAM = 100
MOST_IDLE_CORES = 0.1
MOST_SECONDS_AT_95 = 0.3


class Reader:
    """A stream that is read; it keeps when it heard of a job's end."""

    def __init__(self) -> None:
        self.heard: dict[str, float] = {}

    async def open(self, url: str, key: str) -> None:
        host = urlsplit(url)
        self._lines, self._writer = await asyncio.open_connection(host.hostname, host.port)
        head = (
            f"GET /v1/stream?topic=job.completed HTTP/1.1\r\nHost: {host.netloc}\r\nAuthorization: Bearer {key}\r\n\r\n"
        )
        self._writer.write(head.encode())
        while b": open" not in (line := await self._lines.readline()):
            assert line, "the stream was not opened"

    async def read(self) -> None:
        """Read until the stream is closed."""
        while line := await self._lines.readline():
            if line.startswith(b"data: "):
                job_id = line.partition(b'"job_id":"')[2].partition(b'"')[0].decode()
                self.heard[job_id] = time.time()

    def close(self) -> None:
        self._writer.close()


@pytest.mark.timeout(600)
def test_two_thousand_streams_hear_within_a_moment(tmp_path: Path) -> None:
    with running_postgres() as databases, databases.fresh() as url, closing(Ledger(url)) as ledger:
        users = [ledger.users.add(f"user-{n}", plan="studio") for n in range(USERS)]
        environment = os.environ | {
            "DARKROOM_LEDGER_URL": url,
            "DARKROOM_HOME": str(tmp_path),
            "DARKROOM_SIGNING_KEY": "a long random text",
            "PREFECT_API_URL": NO_PREFECT,
        }
        with gateway_process(environment, tmp_path / "log", anew=True) as gateway:
            seen = asyncio.run(_measured(ledger, users, gateway.url, psutil.Process(gateway.process.pid)))
    print(
        f"\n{USERS * STREAMS_OF_ONE} streams: {seen.kb:.0f} KB each; cores: {seen.idle:.1%} idle, {seen.busy:.1%} busy"
    )
    at_95 = seen.late[len(seen.late) * 95 // 100]
    print(f"from commit to the last reader's line: p95 {at_95:.3f} s, {seen.late[-1]:.3f} s at most")
    assert seen.kb <= MOST_KB_A_STREAM
    assert seen.idle <= MOST_IDLE_CORES
    assert at_95 <= MOST_SECONDS_AT_95


@dataclass(frozen=True, kw_only=True)
class Figures:
    kb: float  # of the gateway's memory, a stream
    idle: float  # cores of the gateway's, while nothing happens
    busy: float  # … while jobs end
    late: Sequence[float]  # seconds from a job's end to the last reader's line, sorted


async def _measured(ledger: Ledger, users: Sequence[NewKey], url: str, gateway: psutil.Process) -> Figures:
    before = gateway.memory_info().rss
    readers = {user.user_id: [Reader() for _ in range(STREAMS_OF_ONE)] for user in users}
    for user in users:
        await asyncio.gather(*(reader.open(url, user.key) for reader in readers[user.user_id]))
    kb = (gateway.memory_info().rss - before) / (USERS * STREAMS_OF_ONE) / 1000
    reading = [asyncio.create_task(each.read()) for of_one in readers.values() for each in of_one]
    began = _cpu(gateway)
    await asyncio.sleep(IDLE_SECONDS)
    idle = (_cpu(gateway) - began) / IDLE_SECONDS
    began = _cpu(gateway)
    ended = await asyncio.to_thread(_jobs, ledger, users)
    busy = (_cpu(gateway) - began) / (JOBS / JOBS_A_SECOND)
    await asyncio.wait_for(_heard(readers, ended), 60)
    late = [max(each.heard[job] for each in readers[user]) - at for job, (user, at) in ended.items()]
    for of_one in readers.values():
        for each in of_one:
            each.close()
    await asyncio.gather(*reading, return_exceptions=True)
    return Figures(kb=kb, idle=idle, busy=busy, late=sorted(late))


def _jobs(ledger: Ledger, users: Sequence[NewKey]) -> dict[str, tuple[str, float]]:
    """End jobs of one user after the other, and return whose each is and when its end was committed."""
    ended = {}
    began = time.monotonic()
    for n in range(JOBS):
        time.sleep(max(0.0, began + n / JOBS_A_SECOND - time.monotonic()))
        user = users[n % len(users)].user_id
        job = ledger.jobs.post(user_id=user, kind="generate-image", parameters={}).job
        ledger.jobs.finish(job.id, JobStatus.COMPLETED)
        ended[job.id] = user, time.time()
    return ended


async def _heard(readers: dict[str, list[Reader]], ended: dict[str, tuple[str, float]]) -> None:
    while not all(job in each.heard for job, (user, _) in ended.items() for each in readers[user]):
        await asyncio.sleep(0.1)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
