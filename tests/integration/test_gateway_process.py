"""The gateway as a process: ready with Prefect, and of use without."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect_server import PrefectServer
from running_gateway import NO_PREFECT, gateway_process
from support import free_port, wait_until

from darkroom.deployments.gateway.__main__ import main
from darkroom.ledger import Ledger
from darkroom.media.store import PROBE


def readiness(http: httpx.Client) -> dict[str, Any]:
    answer: dict[str, Any] = http.get("/readyz").json()
    return answer


def test_it_is_ready_when_ledger_prefect_and_blocks_are(prefect: PrefectServer, tmp_path: Path) -> None:
    """Each is a check by name; nothing differs from the environment it was provisioned with."""
    with gateway_process(prefect.environment, tmp_path / "log", anew=True) as gateway:
        http = gateway.http
        wait_until(lambda: http.get("/readyz").status_code == 200, timeout=30, every=0.1, what="readiness")

        ready = readiness(http)

    assert {name for name, check in ready["checks"].items() if check["ok"]} == {
        "ledger",
        "prefect",
        "fal_account",
        "media_store",
    }
    assert ready["differences"] == []


def test_it_tells_where_the_environment_differs_from_the_blocks(prefect: PrefectServer, tmp_path: Path) -> None:
    """The blocks rule, so it is ready; no key is shown."""
    other = prefect.environment | {"FAL_KEY": "other:key", "DARKROOM_STORE": str(tmp_path / "elsewhere")}
    with gateway_process(other, tmp_path / "log") as gateway:
        http = gateway.http
        wait_until(lambda: http.get("/readyz").status_code == 200, timeout=30, every=0.1, what="readiness")

        answer = http.get("/readyz")

    assert [text.partition(", which is used")[0] for text in answer.json()["differences"]] == [
        "DARKROOM_STORE is not the place of the block local-file-system/darkroom-media",
        "The block fal-account/default",
    ]
    assert "other:key" not in answer.text
    assert "sim:key" not in answer.text


def test_it_takes_orders_while_prefect_is_out(ledger: Ledger, ledger_url: str, tmp_path: Path) -> None:
    """They are on record and will be carried out; `/readyz` says what is missing."""
    environment = os.environ | {
        "DARKROOM_LEDGER_URL": ledger_url,
        "DARKROOM_HOME": str(tmp_path),
        "DARKROOM_SIGNING_KEY": "a long random text",
        "PREFECT_API_URL": NO_PREFECT,
    }
    key = ledger.users.add("ann").key
    with gateway_process(environment, tmp_path / "log") as gateway:
        http = gateway.http
        order = http.post("/v1/images", json={"prompt": "a fox"}, headers={"Authorization": f"Bearer {key}"})
        assert order.status_code == 202

        wait_until(lambda: "prefect" in problems(http), timeout=30, every=0.1, what="the look at Prefect")
        assert http.get("/readyz").status_code == 503
        assert "ledger" not in problems(http)

    log = (tmp_path / "log").read_text()
    assert "a fox" not in log
    assert key not in log
    assert "Traceback" not in log


def test_it_is_not_ready_without_its_ledger(tmp_path: Path) -> None:
    """It lives, answers 503 with a problem document, and goes on trying."""
    environment = os.environ | {
        "DARKROOM_LEDGER_URL": "postgresql://nobody@127.0.0.1:9/nothing",
        "DARKROOM_HOME": str(tmp_path),
        "DARKROOM_SIGNING_KEY": "a long random text",
        "PREFECT_API_URL": NO_PREFECT,
    }
    with gateway_process(environment, tmp_path / "log") as gateway:
        http = gateway.http
        assert "ledger" in problems(http)
        answer = http.get("/v1/jobs", headers={"Authorization": "Bearer dk_1"})

    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert answer.json()["type"] == "urn:darkroom:problem:unavailable"


@pytest.mark.parametrize("missing", ["DARKROOM_SIGNING_KEY", "DARKROOM_LEDGER_URL"])
def test_it_does_not_start_half_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """One line names the setting: what a process ends with."""
    given = {
        "DARKROOM_LEDGER_URL": "postgresql://nobody@127.0.0.1:9/nothing",
        "DARKROOM_HOME": str(tmp_path),
        "DARKROOM_SIGNING_KEY": "a long random text",
        missing: "",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["gateway", "--port", str(free_port())])
    monkeypatch.setattr("darkroom.deployments.gateway.__main__.give_memory_back", lambda: True)  # to this process

    with pytest.raises(SystemExit) as ended:
        main()

    assert str(ended.value).startswith(f"error: {missing} ") and "\n" not in str(ended.value)


def problems(http: httpx.Client) -> set[str]:
    """The checks that have failed; those not made yet are not among them."""
    checks = readiness(http)["checks"]
    return {name for name, check in checks.items() if not check["ok"] and check["problem"] != "not read yet"}


def test_it_is_not_ready_while_the_store_takes_nothing(prefect: PrefectServer, tmp_path: Path) -> None:
    """What a probe cannot write and read is told by its reason, and forgotten when it can."""
    probed_often = {"DARKROOM_TIME_SCALE": "0.1"}
    with gateway_process(prefect.environment | probed_often, tmp_path / "log") as gateway:
        http = gateway.http
        wait_until(lambda: http.get("/readyz").status_code == 200, timeout=30, every=0.1, what="readiness")
        probe = prefect.home / "media" / PROBE
        probe.unlink()
        probe.mkdir()

        wait_until(lambda: "media_store" in problems(http), timeout=40, every=0.1, what="the probe")
        assert "refuses" in readiness(http)["checks"]["media_store"]["problem"]

        probe.rmdir()
        wait_until(lambda: http.get("/readyz").status_code == 200, timeout=40, every=0.1, what="readiness again")
