"""A gateway that is killed between two steps of a submit: the call is paid once, or the rules of *unknown* apply.

The gateway is a process of its own, with the provider's block from a real Prefect, and a simulator bills. Postgres
holds it in the middle of a transaction, or a proxy that never answers before its POST, and there it is killed.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from interleaving import closed_gate
from ledger_databases import Db
from prefect_server import PrefectServer
from reconciling import resources_of, turn
from running_gateway import GatewayProcess, gateway_process
from simulated_fal import SimulatedFal
from support import SLOW, free_port, wait_until

from darkroom.engine import submit as sending
from darkroom.engine.resources import Resources
from darkroom.errors import DarkroomError
from darkroom.ledger import Ledger, Request, RequestSpec, RequestStatus, spec_again
from darkroom.providers.fal import Fal
from darkroom.providers.fal.provider import FalProvider
from darkroom.providers.registry import Providers
from darkroom.timing import UNSCALED

GRANTED, SUBMITTING = RequestStatus.GRANTED, RequestStatus.SUBMITTING
BEFORE_THE_COMMIT = "UPDATE OF submitted_at ON request"
BEFORE_THE_ANSWER_IS_ON_RECORD = "UPDATE OF accepted_at ON request"


@dataclass(frozen=True, kw_only=True)
class Scene:
    ledger: Ledger
    db: Db
    simulator: SimulatedFal
    environment: Mapping[str, str]
    log: Path
    port: int
    key: str
    prompt: str
    resources: Resources

    @contextmanager
    def gateway(self, **environment: str) -> Iterator[GatewayProcess]:
        """One that has read its blocks."""
        with gateway_process({**self.environment, **environment}, self.log, port=self.port) as gateway:
            wait_until(lambda: gateway.http.get("/readyz").status_code == 200, timeout=60, every=0.1, what="its blocks")
            yield gateway

    def order(self, gateway: GatewayProcess) -> str:
        answer = gateway.as_user(self.key).order({"prompt": self.prompt}).raise_for_status()
        return str(answer.json()["job_id"])

    def row(self, job_id: str) -> Request:
        return self.ledger.requests.of_job(job_id)[-1]

    def by_the_run(self, job_id: str) -> Request:
        """What the run does when it comes to the call."""
        with suppress(DarkroomError):
            sending.submit(self.resources, self.row(job_id))
        return self.row(job_id)

    def billed(self) -> int:
        return len(self.simulator.requests(self.prompt))

    def time_passes(self, by: timedelta) -> None:
        self.db.execute("UPDATE request SET submitted_at = submitted_at - %(by)s", {"by": by})

    def settled(self, job_id: str) -> bool:
        return self.row(job_id).status is RequestStatus.SUCCEEDED


@pytest.fixture
def scene(
    ledger: Ledger, ledger_url: str, db: Db, prefect: PrefectServer, simulator: SimulatedFal, tmp_path: Path
) -> Iterator[Scene]:
    port = free_port()
    environment = prefect.environment | {
        **{name: os.environ[name] for name in simulator.environment() if name in os.environ},
        "DARKROOM_LEDGER_URL": ledger_url,
        "DARKROOM_FAL_USER_ID": "sim-user",
        "DARKROOM_PUBLIC_URL": f"http://127.0.0.1:{port}",
    }
    prompt = f"a fox {uuid4()}"
    simulator.rule(match=prompt, hold=True)
    with Fal("sim:key") as fal:
        yield Scene(
            ledger=ledger,
            db=db,
            simulator=simulator,
            environment=environment,
            log=tmp_path / "log",
            port=port,
            key=ledger.users.add("ann").key,
            prompt=prompt,
            resources=resources_of(ledger, providers=Providers({"fal": lambda: FalProvider(fal)})),
        )


@dataclass(frozen=True, kw_only=True)
class SilentProxy:
    """Takes connections and never answers."""

    listener: socket.socket

    @property
    def environment(self) -> dict[str, str]:
        """Both spellings: the simulator sets both, and the lower one goes before the other."""
        return dict.fromkeys(("HTTPS_PROXY", "https_proxy"), f"http://127.0.0.1:{self.listener.getsockname()[1]}")

    @contextmanager
    def asked(self) -> Iterator[str]:
        """Wait for a request, and leave it without an answer for the block."""
        self.listener.settimeout(SLOW * 30)
        connection, _ = self.listener.accept()
        with connection:
            yield connection.recv(1000).decode()


@contextmanager
def silent_proxy() -> Iterator[SilentProxy]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield SilentProxy(listener=listener)


def released(scene: Scene) -> None:
    for each in scene.simulator.requests(scene.prompt):
        scene.simulator.release(each["request_id"])


def test_killed_before_it_commits_it_has_sent_nothing_and_the_run_sends_it(scene: Scene) -> None:
    with scene.gateway() as gateway, closed_gate(scene.db, at=BEFORE_THE_COMMIT) as gate:
        job_id = scene.order(gateway)
        gate.reached()
        gateway.kill()
        gate.turn_away()
    assert scene.row(job_id).status is GRANTED
    assert scene.billed() == 0

    assert scene.by_the_run(job_id).status is RequestStatus.IN_FLIGHT
    assert scene.billed() == 1


def test_killed_between_the_commit_and_the_post_the_row_is_unknown_until_it_is_given_up(scene: Scene) -> None:
    """Nobody knows that nothing left, so the run sends nothing either; the second attempt is the one that is paid."""
    with silent_proxy() as proxy, scene.gateway(**proxy.environment) as gateway:
        job_id = scene.order(gateway)
        with proxy.asked() as connect:
            gateway.kill()
        assert connect.startswith("CONNECT queue.fal.run:443")
    assert scene.row(job_id).status is SUBMITTING
    assert scene.by_the_run(job_id).status is SUBMITTING
    assert scene.billed() == 0

    scene.time_passes(UNSCALED.submit_limit)
    turn(scene.resources)
    assert scene.row(job_id).status is RequestStatus.UNKNOWN
    scene.time_passes(timedelta(days=1))
    turn(scene.resources)
    lost = scene.row(job_id)
    assert lost.status is RequestStatus.EXPIRED
    again = scene.ledger.requests.reserve_all(job_id, [_again(lost)])[0]
    scene.ledger.grants.grant()
    assert scene.by_the_run(job_id).status is RequestStatus.IN_FLIGHT
    assert (again.attempt, scene.billed()) == (2, 1)


def _again(row: Request) -> RequestSpec:
    return spec_again(row, attempt=row.attempt + 1, lane=row.lane)


def test_killed_before_the_answer_is_on_record_the_webhook_finds_the_row(scene: Scene) -> None:
    """The provider has it, once; the run adopts the row as it is, and the next gateway takes its result."""
    with scene.gateway() as gateway, closed_gate(scene.db, at=BEFORE_THE_ANSWER_IS_ON_RECORD) as gate:
        job_id = scene.order(gateway)
        gate.reached()
        gateway.kill()
        gate.turn_away()
    assert scene.row(job_id).status is SUBMITTING
    assert scene.by_the_run(job_id).status is SUBMITTING
    assert scene.billed() == 1

    with scene.gateway():
        released(scene)
        wait_until(lambda: scene.settled(job_id), timeout=30, every=0.05, what="its webhook")
    assert scene.billed() == 1
