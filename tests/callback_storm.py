"""Many callbacks to a customer whose application fails in every way, and a customer beside it, while things are killed.

The customer's application answers by the path that it is called at: 500, not at all, a redirect, 410, and one that is
out for an hour. In the middle of it the gateway is killed, and a server process of Postgres, which takes all
connections and what was not committed with it. Hours pass by moving what is due to now, as a clock would.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from integration.customers import Application, Call, Says, application
from integration.running_gateway import NO_PREFECT, GatewayProcess, gateway_process
from psycopg.rows import dict_row
from sqlalchemy.exc import OperationalError
from standardwebhooks import WebhookVerificationError
from support import wait_until

from darkroom.ledger import JobStatus, Ledger, NewKey
from darkroom.ledger.labels import Labels

ATTEMPTS = 8
TIME_SCALE = 0.05  # a delivery that hangs is given up after half a second
BESIDE_EVERY_SECONDS = 0.1
AT_ONCE = 8  # jobs that end
SECONDS_TO_HEAR = 1  # what ends shortly before the gateway is killed is told by the next one


@dataclass
class Figures:
    """What came of it. `beside`: seconds from the end of a job to its callback, of the other customer."""

    seconds: float
    calls: int
    outcomes: Counter[tuple[str, str]]  # by path and status
    twice: int  # calls under an id that had come before, of those that were delivered
    beside: list[float]


@dataclass
class _Storm:
    ledger: Ledger
    url: str
    ann: NewKey
    bob: NewKey
    failing: Application
    well: Application
    jobs: dict[str, str] = field(default_factory=dict)  # path by job
    ended: dict[str, float] = field(default_factory=dict)  # when each of bob's jobs ended
    down: tuple[float, float] = (0, 0)  # from when until when gateway or Postgres was
    secrets: Mapping[str, str] = field(default_factory=dict)  # by the application's address
    forged: list[str] = field(default_factory=list)  # ids that the standard's client does not believe

    def hear(self, call: Call, own: Application) -> None:
        """Verify it as it comes: the standard's client believes nothing that is older than five minutes."""
        try:
            call.verified(self.secrets[own.url])
        except WebhookVerificationError:
            self.forged.append(call.id)

    def finish(self, key: NewKey, labels: Labels) -> str:
        job = self.ledger.jobs.post(user_id=key.user_id, kind="generate-image", parameters={}, labels=labels).job
        self.ledger.jobs.finish(job.id, JobStatus.COMPLETED)
        return job.id

    def order(self, path: str) -> None:
        labels = Labels(callback_url=f"{self.failing.url}{path}", callback_events=("job.completed",))
        self.jobs[self.finish(self.ann, labels)] = path

    def beside(self, stop: threading.Event) -> None:
        """End a job of bob's every now and then, whatever happens to ann's."""
        while not stop.wait(BESIDE_EVERY_SECONDS):
            with suppress(OperationalError):
                id = self.finish(self.bob, Labels())
                self.ended[id] = time.time()

    def undisturbed(self, job_id: str) -> bool:
        """Return whether a job of bob's ended while all was up, and would be so for long enough."""
        killed, up = self.down
        return not killed - SECONDS_TO_HEAR < self.ended[job_id] < up


def storm(ledger_url: str, home: Path, *, wanted: Mapping[str, int]) -> Figures:
    """Order as many of each path as are `wanted`, and return the figures once each is delivered or dead.

    Asserts that none is lost, that what comes twice bears one id, and that the standard's client believes each.
    """
    out = threading.Event()
    out.set()
    began = time.monotonic()
    with ExitStack() as opened:
        released = threading.Event()
        opened.callback(released.set)
        failing, well = (opened.enter_context(application()) for _ in range(2))
        ledger = Ledger(ledger_url)
        opened.callback(ledger.close)
        ann, bob = (ledger.users.add(name, plan="studio") for name in ("ann", "bob"))
        run = _Storm(ledger, ledger_url, ann, bob, failing, well)
        for own in (failing, well):
            own.answers = partial(_answer, own, run, out=out, released=released)
        environment = _environment(ledger_url, home, failing, well)
        with gateway_process(environment, home / "log") as gateway:
            _have_endpoints(gateway, run)
            stop = threading.Event()
            pool = opened.enter_context(ThreadPoolExecutor(AT_ONCE + 1))
            opened.callback(stop.set)
            beside = pool.submit(run.beside, stop)
            list(pool.map(run.order, [path for path, number in wanted.items() for _ in range(number)]))
            wait_until(lambda: len(failing.calls) >= sum(wanted.values()) // 4, timeout=120, what="the storm")
            killed = time.time()
            gateway.process.kill()
            gateway.process.wait()
            _crash(ledger_url)
            wait_until(lambda: _is_up(ledger_url), timeout=30, every=0.1, what="Postgres")
        with gateway_process(environment, home / "log"):
            run.down = killed, time.time()
            out.clear()  # an hour later it is there again
            wait_until(lambda: _pass_time(ledger_url, ann.user_id), timeout=600, every=0.2, what="outcomes")
            stop.set()
            beside.result()
            wait_until(lambda: _pass_time(ledger_url, bob.user_id), timeout=60, every=0.2, what="the others")
        return _judge(run, wanted, seconds=time.monotonic() - began)


def _answer(own: Application, run: _Storm, call: Call, *, out: threading.Event, released: threading.Event) -> Says:
    run.hear(call, own)
    match call.path:
        case "/fails":
            return Says(status=500)
        case "/hangs":
            return Says(after=released)
        case "/moved":
            return Says(status=302, headers={"Location": f"{own.url}/elsewhere"})
        case "/gone":
            return Says(status=410)
        case "/out":
            return Says(status=503 if out.is_set() else 200)
        case _:
            return Says()


def _environment(ledger_url: str, home: Path, *applications: Application) -> dict[str, str]:
    return os.environ | {
        "DARKROOM_LEDGER_URL": ledger_url,
        "DARKROOM_HOME": str(home),
        "DARKROOM_SIGNING_KEY": "a long random text",
        "DARKROOM_TIME_SCALE": str(TIME_SCALE),
        "DARKROOM_WEB_ALLOW": ", ".join(each.allowed for each in applications),
        "PREFECT_API_URL": NO_PREFECT,
    }


def _have_endpoints(gateway: GatewayProcess, run: _Storm) -> None:
    """Give bob an endpoint, and ann, whose orders have addresses of their own, a secret."""
    ann, bob = ({"Authorization": f"Bearer {key.key}"} for key in (run.ann, run.bob))
    hers = gateway.http.post("/v1/callback-endpoint/rotate", headers=ann).raise_for_status().json()
    his = gateway.http.put("/v1/callback-endpoint", json={"url": run.well.url}, headers=bob).raise_for_status().json()
    run.secrets = {run.failing.url: hers["secret"], run.well.url: his["secret"]}


@contextmanager
def _rows(ledger_url: str) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    with psycopg.connect(ledger_url, autocommit=True, row_factory=dict_row) as connection:
        yield connection


def _crash(ledger_url: str) -> None:
    """Kill a server process of Postgres: all others end with it, and it recovers from its log."""
    with suppress(psycopg.OperationalError), _rows(ledger_url) as connection:
        found = connection.execute("SELECT pg_backend_pid() AS pid").fetchone()
        assert found is not None
        os.kill(found["pid"], signal.SIGKILL)
        connection.execute("SELECT 1")


def _is_up(ledger_url: str) -> bool:
    try:
        with _rows(ledger_url) as connection:
            return connection.execute("SELECT 1").fetchone() is not None
    except psycopg.OperationalError:
        return False


def _pass_time(ledger_url: str, user_id: str) -> bool:
    """Let every pause be over. Return whether there is an outcome for each of the user's."""
    with _rows(ledger_url) as rows:
        rows.execute(
            "UPDATE callback SET next_at = now() WHERE status = 'pending' AND attempts > 0 "
            "AND next_at > now() + interval '2 seconds'"  # what is nearer may be claimed just now
        )
        found = rows.execute(
            "SELECT (SELECT count(*) FROM callback WHERE user_id = %(user)s AND status = 'pending') AS pending, "
            "(SELECT count(*) FROM job WHERE user_id = %(user)s) AS jobs, "
            "(SELECT count(*) FROM callback WHERE user_id = %(user)s) AS callbacks",
            {"user": user_id},
        ).fetchone()
        assert found is not None
        return bool(found["pending"] == 0 and found["jobs"] == found["callbacks"])


def _judge(run: _Storm, wanted: Mapping[str, int], *, seconds: float) -> Figures:
    with _rows(run.url) as rows:
        hers = rows.execute("SELECT * FROM callback WHERE owner_id = %s", [run.ann.user_id]).fetchall()
        his = rows.execute("SELECT * FROM callback WHERE owner_id = %s", [run.bob.user_id]).fetchall()
    assert {row["job_id"] for row in hers} == set(run.jobs) and len(hers) == sum(wanted.values())
    assert {row["job_id"] for row in his} >= set(run.ended) and {row["status"] for row in his} == {"delivered"}
    jobs = {row["id"]: row["job_id"] for row in [*hers, *his]}
    calls = [*run.failing.calls, *run.well.calls]
    assert all(call.document["data"]["job_id"] == jobs[call.id] for call in calls), "one id for each, however often"
    assert not run.forged
    assert not any(call.path == "/elsewhere" for call in run.failing.calls), "a redirect is not followed"
    assert {row["attempts"] for row in hers if run.jobs[row["job_id"]] in ("/fails", "/moved", "/hangs")} == {ATTEMPTS}
    taken = Counter(call.id for call in calls if call.path in ("/", "/well"))
    came = {call.document["data"]["job_id"]: call.at for call in reversed(run.well.calls)}
    return Figures(
        seconds=seconds,
        calls=len(calls),
        outcomes=Counter((run.jobs[row["job_id"]], row["status"]) for row in hers),
        twice=sum(taken.values()) - len(taken),
        beside=sorted(came[id] - run.ended[id] for id in run.ended if run.undisturbed(id)),
    )
