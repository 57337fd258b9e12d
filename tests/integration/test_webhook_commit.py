"""A webhook is answered with 2xx when it is committed, and never before: fal sends what was not answered again.

The gateway is a process of its own. Postgres holds it in the middle of its transaction, or in its commit, and there it
is looked at, or killed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest
from interleaving import closed_gate
from ledger_databases import Db
from ledger_scenes import OUTPUT, Picture, submitting_picture
from running_gateway import NO_PREFECT, GatewayProcess, gateway_process
from simulated_fal import SimulatedFal
from support import SLOW, free_port, wait_until

from darkroom.ledger import Ledger, RequestStatus

IN_FLIGHT, SUCCEEDED = RequestStatus.IN_FLIGHT, RequestStatus.SUCCEEDED
IN_THE_STATEMENT, IN_THE_COMMIT = False, True


@dataclass(frozen=True, kw_only=True)
class Sender:
    """fal with one result, which it sends again and again until somebody takes it."""

    simulator: SimulatedFal
    picture: Picture
    request_id: str = field(default_factory=lambda: str(uuid4()))

    def send(self, gateway: GatewayProcess, *, request_id: str | None = None) -> int | None:
        """The status of the answer, None if there was none."""
        given = request_id or self.request_id
        body = {"request_id": given, "gateway_request_id": given, "status": "OK", "payload": OUTPUT}
        token = self.picture.row.token if request_id is None else None
        return self.simulator.send_webhook(url=gateway.webhook_url(token), body=body)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a gateway is started, and started again."""

    environment: Mapping[str, str]
    log: Path
    port: int

    @contextmanager
    def gateway(self) -> Iterator[GatewayProcess]:
        with gateway_process(self.environment, self.log, port=self.port) as gateway:
            yield gateway


@pytest.fixture
def place(ledger_url: str, simulator: SimulatedFal, tmp_path: Path) -> Place:
    environment = os.environ | {
        "DARKROOM_LEDGER_URL": ledger_url,
        "DARKROOM_HOME": str(tmp_path),
        "DARKROOM_SIGNING_KEY": "a long random text",
        "DARKROOM_FAL_USER_ID": "sim-user",
        "PREFECT_API_URL": NO_PREFECT,
    }
    return Place(environment=environment, log=tmp_path / "log", port=free_port())


@pytest.fixture
def sender(ledger: Ledger, simulator: SimulatedFal) -> Sender:
    sender = Sender(simulator=simulator, picture=submitting_picture(ledger, ledger.users.add("ann").user_id))
    sender.picture.accept(sender.request_id)
    return sender


@pytest.fixture
def beside() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def verdicts(sender: Sender) -> list[str]:
    return [delivery.verdict for delivery in sender.picture.ledger.requests.deliveries(sender.picture.ref)]


def test_no_answer_leaves_before_the_commit_is_done(
    place: Place, sender: Sender, db: Db, beside: ThreadPoolExecutor
) -> None:
    """Held in its very commit, the webhook stays unanswered while another one comes and is answered."""
    with place.gateway() as gateway:
        with closed_gate(db, at="UPDATE ON request", in_the_commit=True) as gate:
            answer: Future[int | None] = beside.submit(sender.send, gateway)
            gate.reached()
            assert sender.send(gateway, request_id=str(uuid4())) == 404  # a whole journey, there and back
            assert not answer.done()
            assert sender.picture.row.status is IN_FLIGHT
            gate.open()
            assert answer.result(timeout=SLOW * 20) == 200
        assert sender.picture.row.status is SUCCEEDED
        assert verdicts(sender) == ["settled"]


@pytest.mark.parametrize("committing", [IN_THE_STATEMENT, IN_THE_COMMIT], ids=["in its statement", "in its commit"])
def test_a_gateway_that_is_killed_has_answered_nothing_and_the_repeated_webhook_changes_nothing(
    place: Place, sender: Sender, db: Db, beside: ThreadPoolExecutor, committing: bool
) -> None:
    """It is one statement, and its own transaction: once Postgres has it, it counts, whoever lives to hear of it."""
    with place.gateway() as gateway, closed_gate(db, at="UPDATE ON request", in_the_commit=committing) as gate:
        answer: Future[int | None] = beside.submit(sender.send, gateway)
        gate.reached()
        gateway.process.kill()
        assert answer.result(timeout=SLOW * 20) is None
        assert sender.picture.row.status is IN_FLIGHT
        gate.open()
        wait_until(lambda: sender.picture.row.status is SUCCEEDED, timeout=20, every=0.02, what="the commit")
    assert verdicts(sender) == ["settled"]

    with place.gateway() as gateway:
        assert sender.send(gateway) == 200
    assert (sender.picture.row.status, verdicts(sender)) == (SUCCEEDED, ["settled", "duplicate"])
