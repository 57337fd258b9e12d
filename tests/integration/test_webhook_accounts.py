"""Whose webhook it is, beside its signature: fal's keys sign for all customers, and a row has one provider."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from interleaving import overlap
from ledger_databases import Db
from ledger_scenes import OUTPUT, Picture, picture_in_flight, spec
from pydantic import SecretStr
from running_gateway import GivenBlocks, RecordingPrefect, RunningGateway, running_gateway
from simulated_fal import SimulatedFal

from darkroom.ledger import Ledger, RequestStatus
from darkroom.providers.fal import Fal
from darkroom.settings import Settings

OURS, THEIRS = "sim-user", "other-user"
FILM = "019aa1f0-0000-7000-8000-000000000001"


@pytest.fixture
def account() -> str | None:
    """The configured account; None: it is to be learned."""
    return None


@pytest.fixture
def gateway(
    ledger_url: str, simulator: SimulatedFal, prefect_calls: RecordingPrefect, tmp_path: Path, account: str | None
) -> Iterator[RunningGateway]:
    settings = Settings(
        ledger_url=ledger_url, home=tmp_path, signing_key=SecretStr("a long random text"), fal_user_id=account
    )
    with Fal("sim:key") as fal, running_gateway(settings, blocks=GivenBlocks(client=fal)) as gateway:
        yield gateway


@pytest.fixture
def picture(ledger: Ledger, ann: str) -> Picture:
    return picture_in_flight(ledger, ann)


@pytest.fixture
def film(ledger: Ledger, picture: Picture) -> str:
    """Another provider's call, under an id of its own."""
    asked = spec(step="film", account_id="mux", estimate_usd=Decimal(0))
    (row,) = ledger.requests.reserve_all(picture.job_id, [asked])
    ledger.requests.accepted(row.ref, request_id=FILM)
    return row.ref


def send(
    simulator: SimulatedFal, gateway: RunningGateway, request_id: str, *, token: str | None = None, user_id: str = OURS
) -> int | None:
    """Send a success, signed as fal does."""
    body = {"request_id": request_id, "gateway_request_id": request_id, "status": "OK", "payload": OUTPUT}
    return simulator.send_webhook(url=gateway.webhook_url(token), body=body, user_id=user_id)


@pytest.mark.parametrize("account", [OURS, None], ids=["configured", "to be learned"])
def test_a_call_of_another_providers_is_none_of_fals(
    simulator: SimulatedFal, gateway: RunningGateway, ledger: Ledger, film: str
) -> None:
    """Its result is not taken from fal, and it does not teach which account at fal is ours."""
    before = ledger.requests.get(film)
    assert send(simulator, gateway, FILM) == 404
    assert ledger.requests.get(film) == before
    assert ledger.users.account("fal").provider_user_id is None


def test_a_foreign_token_teaches_nothing(simulator: SimulatedFal, gateway: RunningGateway, picture: Picture) -> None:
    """Though its sender knows the id of a request of ours."""
    assert send(simulator, gateway, "fal-1", token="0" * 32) == 403
    assert picture.row.status is RequestStatus.IN_FLIGHT
    assert picture.ledger.users.account("fal").provider_user_id is None


def test_of_two_accounts_that_come_at_once_the_first_is_ours(
    simulator: SimulatedFal, gateway: RunningGateway, picture: Picture, db: Db
) -> None:
    """Another gateway is just learning it."""
    users = picture.ledger.users
    _, answer = overlap(
        db,
        lambda: users.learn_provider_user("fal", OURS),
        lambda: send(simulator, gateway, "fal-1", user_id=THEIRS),
        at="UPDATE ON account",
    )
    assert answer == 403
    assert picture.row.status is RequestStatus.IN_FLIGHT
    assert users.account("fal").provider_user_id == OURS
