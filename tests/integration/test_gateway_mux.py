"""Webhooks of Mux at the gateway's door, sent by the simulator: the genuine settle their row, others change nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import media_files
import psycopg
import pytest
from pydantic import SecretStr
from running_gateway import GivenBlocks, RunningGateway, recording_prefect, running_gateway
from simulated_fal import SimulatedFal
from support import wait_until

from darkroom.deployments.simulator.mux_assets import signed_headers
from darkroom.ledger import Ledger, Request, RequestSpec, RequestStatus
from darkroom.media.formats import Kind, Media, verify
from darkroom.providers.base import Accepted
from darkroom.providers.mux import Mux, MuxApi
from darkroom.settings import Settings

UPLOAD = "mux/upload"
SETTLED, DUPLICATE = "settled", "duplicate"


@pytest.fixture(scope="module")
def film() -> Media:
    return verify(media_files.film(seconds=1), Kind.VIDEO)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A film on its way to Mux: its row is submitting."""

    ledger: Ledger
    ledger_url: str
    gateway: RunningGateway
    simulator: SimulatedFal
    mux: Mux
    film: Media
    ref: str
    secret: str

    @property
    def row(self) -> Request:
        return self.ledger.requests.get(self.ref)

    def upload(self, **faults: Any) -> str:
        """At Mux, its id on record, and its film delivered."""
        self.simulator.call_rule(provider="mux", operation="put_film", match=self.ref, **faults)
        taken = self.mux.submit(self.row, {"video": self.film, "title": self.ref}, webhook_url=None)
        assert isinstance(taken, Accepted)
        assert taken.deliver is not None
        self.ledger.requests.accepted(self.ref, request_id=taken.request_id)
        taken.deliver()
        return taken.request_id

    def answers(self, number: int, *, kind: str = "video.asset.ready") -> list[int]:
        """What the gateway answered to so many webhooks of that kind."""

        def sent() -> list[int]:
            (call,) = self.simulator.calls(match=self.ref, operation="put_film")
            return [webhook["status_code"] for webhook in call["webhooks"] if webhook["kind"] == kind]

        return wait_until(lambda: len(sent()) >= number and sent(), what="the webhooks")

    def send(self, event: object, *, secret: str | None = None) -> httpx.Response:
        """One by hand, signed as Mux does."""
        body = json.dumps(event).encode()
        headers = signed_headers(body, secret=secret or self.secret, timestamp=int(time.time()))
        return self.gateway.http.post("/webhooks/mux", content=body, headers=headers)

    def deliveries(self) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.ledger_url) as connection:
            rows = connection.execute("SELECT provider, request_id, ref, verdict FROM delivery ORDER BY id")
            return rows.fetchall()


@pytest.fixture
def secret(simulator: SimulatedFal) -> str | None:
    """The signing secret; None where the gateway has none."""
    return simulator.environment()["MUX_WEBHOOK_SECRET"]


@pytest.fixture
def scene(
    ledger: Ledger,
    ledger_url: str,
    simulator: SimulatedFal,
    film: Media,
    secret: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Scene]:
    settings = Settings(
        ledger_url=ledger_url,
        home=tmp_path,
        signing_key=SecretStr("a long random text"),
        mux_webhook_secret=SecretStr(secret) if secret else None,
    )
    ref = submitting(ledger)  # before the gateway's own thread can grant it
    with recording_prefect() as prefect, closing(Mux(MuxApi("sim-mux-token", "sim:mux"))) as mux:
        monkeypatch.setenv("PREFECT_API_URL", prefect.url)
        with running_gateway(settings, blocks=GivenBlocks()) as gateway:
            simulator.mux_webhooks_to(f"{gateway.url}/webhooks/mux")
            yield Scene(
                ledger=ledger,
                ledger_url=ledger_url,
                gateway=gateway,
                simulator=simulator,
                mux=mux,
                film=film,
                ref=ref,
                secret=secret or "whatever",
            )


def submitting(ledger: Ledger) -> str:
    """A row whose upload is about to be made."""
    user = ledger.users.add("ann").user_id
    first = RequestSpec(
        step="upload", endpoint=UPLOAD, input={"video": "asset:ast_1"}, estimate_usd=Decimal("0.03"), account_id="mux"
    )
    ledger.jobs.post(user_id=user, kind="make-debate", parameters={}, first=first)
    (granted,) = ledger.grants.grant()
    ledger.runs.assign(granted.job_id)
    ledger.requests.begin_submit(granted.ref, deadline=timedelta(hours=1))
    return granted.ref


def test_a_film_that_is_ready_settles_its_row(scene: Scene) -> None:
    """With its address, its length and its cost, on record under Mux' name; other news of it are acknowledged."""
    upload_id = scene.upload()
    assert scene.answers(1) == [200]
    assert scene.answers(1, kind="video.upload.asset_created") == [200]
    row = scene.row
    assert row.status is RequestStatus.SUCCEEDED
    assert row.output is not None
    assert row.output["upload_id"] == upload_id
    assert row.output["playback_id"]
    assert row.cost_usd == Decimal("0.000050")
    assert row.delivered_via == "webhook"
    assert scene.deliveries() == [("mux", upload_id, scene.ref, SETTLED)]


def test_a_film_mux_cannot_use_fails_its_row(scene: Scene) -> None:
    """In Mux' words, and nothing was paid."""
    scene.upload(fault="bad_film")
    assert scene.answers(1, kind="video.asset.errored") == [200]
    assert scene.row.status is RequestStatus.FAILED
    assert scene.row.error is not None
    assert scene.row.error["code"] == "invalid_input"
    assert scene.row.cost_usd is None


def test_the_same_news_twice_is_on_record_twice(scene: Scene) -> None:
    """Mux says that it may happen; the row keeps the first."""
    upload_id = scene.upload(webhook="twice")
    assert scene.answers(2) == [200, 200]
    assert [verdict for *_, verdict in scene.deliveries()] == [SETTLED, DUPLICATE]
    assert scene.send(ready(upload_id)).json() == {"verdict": DUPLICATE}


@pytest.mark.parametrize("webhook", ["forged", "old"])
def test_what_is_not_signed_for_us_changes_nothing(scene: Scene, webhook: str) -> None:
    """By another secret, or six minutes ago; asking tells how it ended all the same."""
    scene.upload(webhook=webhook)
    assert scene.answers(2, kind=webhook) == [401, 401]  # of the upload, and of the asset
    assert scene.row.status is RequestStatus.IN_FLIGHT
    assert scene.deliveries() == []
    assert wait_until(lambda: scene.mux.poll(scene.row), what="the end of the upload").output is not None


def test_news_of_somebody_elses_film_is_acknowledged_and_forgotten(scene: Scene) -> None:
    """Mux tells of everything in its environment, and would tell it for a day."""
    assert scene.send(ready("somebody-elses")).json() == {"verdict": "ignored"}
    assert scene.send({"type": "video.live_stream.idle", "data": {"id": "x"}}).json() == {"verdict": "ignored"}
    assert scene.deliveries() == []


def test_one_that_contradicts_itself_is_not_acknowledged(scene: Scene) -> None:
    """Ready by its type and not by its body: Mux shall send it again, and the row is as it was."""
    upload_id = scene.upload(webhook="lost", hold=True)
    event = ready(upload_id)
    event["data"]["status"] = "preparing"
    assert scene.send(event).status_code == 422
    assert scene.row.status is RequestStatus.IN_FLIGHT


def test_strangers_are_turned_away_before_anything_is_read(scene: Scene) -> None:
    """Without a signature, with another's, or with a body that never ends."""
    http = scene.gateway.http
    assert http.post("/webhooks/mux", content=b"{}").status_code == 401
    assert scene.send(ready("x"), secret="another").status_code == 401
    assert http.post("/webhooks/mux", content=b" " * (9 * 1024 * 1024)).status_code == 413


class TestWithoutSecret:
    @pytest.fixture
    def secret(self) -> None:
        """Nobody has set it up."""

    def test_nothing_is_believed(self, scene: Scene) -> None:
        """503, and what to do about it: a webhook that cannot be verified could be anybody's."""
        answer = scene.send(ready("x"), secret="")
        assert answer.status_code == 503
        assert "MUX_WEBHOOK_SECRET" in answer.json()["remedy"]


def ready(upload_id: str) -> dict[str, Any]:
    return {"type": "video.asset.ready", "data": {"id": "a-1", "status": "ready", "upload_id": upload_id}}
