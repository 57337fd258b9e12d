"""`examples/stream` in a real browser: what happens to a picture is shown, each piece of it once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from ledger_databases import Db
from playwright.sync_api import Page, expect
from pydantic import SecretStr
from running_gateway import NO_PREFECT, gateway_process
from studio_browser import in_a_browser
from support import SLOW, free_port, wait_until

from darkroom.deployments.gateway.callback_signing import as_text, secret_of
from darkroom.ledger import JobStatus, Ledger
from darkroom.settings import Settings

EXAMPLE = Path(__file__).parents[2] / "examples" / "stream"

pytestmark = in_a_browser


@contextmanager
def application(*, port: int, darkroom: str, key: str, secret: str, log: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLE), "--port", str(port), "app:app"]
    environment = os.environ | {
        "DARKROOM_URL": darkroom,
        "DARKROOM_KEY": key,
        "CALLBACK_URL": f"http://127.0.0.1:{port}/darkroom",
        "CALLBACK_SECRET": secret,
    }
    with log.open("w") as output, subprocess.Popen(command, env=environment, stdout=output, stderr=output) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: _answers(url), timeout=30, every=0.1, what=f"the application, see {log}")
            yield url
        finally:
            process.terminate()
            process.wait(SLOW * 5)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _end(url: str, job_id: str) -> str | None:
    found: dict[str, str | None] = httpx.get(f"{url}/orders/{job_id}", trust_env=False).json()
    return found["end"]


def test_a_page_shows_every_piece_of_news_once(
    ledger: Ledger, ledger_url: str, db: Db, tmp_path: Path, page: Page
) -> None:
    """Progress and end of a picture, through a gateway that is killed and started again in between.

    Its backend is called at the end, and believes nobody else.
    """
    port, own_port = free_port(), free_port()
    environment = os.environ | {
        "DARKROOM_LEDGER_URL": ledger_url,
        "DARKROOM_HOME": str(tmp_path),
        "DARKROOM_SIGNING_KEY": "a long random text",
        "DARKROOM_GATEWAY_URL": f"http://127.0.0.1:{port}",
        "DARKROOM_TIME_SCALE": "0.2",
        "DARKROOM_WEB_ALLOW": f"127.0.0.1:{own_port}",
        "PREFECT_API_URL": NO_PREFECT,
    }
    shown, log = page.locator("li"), tmp_path / "log"
    shop = ledger.users.add("shop")
    settings = Settings(home=tmp_path, signing_key=SecretStr("a long random text"))
    with application(
        port=own_port,
        darkroom=f"http://127.0.0.1:{port}",
        key=shop.key,
        secret=as_text(secret_of(ledger.callbacks.endpoint(shop.user_id).salt, settings)),
        log=tmp_path / "application",
    ) as url:
        with gateway_process(environment, log, port=port) as gateway:
            page.goto(url)
            page.get_by_role("button").click()
            expect(shown).to_have_text(["job.created"], timeout=SLOW * 10_000)
            (job,) = ledger.jobs.page(shop.user_id, limit=2)
            ledger.jobs.take_up([job.id])
            ledger.jobs.progress(job.id, 25, "paints")
            expect(page.locator("progress")).to_have_attribute("value", "25", timeout=SLOW * 10_000)
            gateway.process.kill()
        db.execute("UPDATE notification SET created_at = created_at - interval '2 seconds'")
        ledger.jobs.progress(job.id, 75, "paints")
        with gateway_process(environment, log, port=port):
            expect(page.locator("progress")).to_have_attribute("value", "75", timeout=SLOW * 10_000)
            ledger.jobs.finish(job.id, JobStatus.COMPLETED)
            told = ["job.created", "job.running", "job.progress", "job.progress", "job.completed"]
            expect(shown).to_have_text(told, timeout=SLOW * 10_000)
            assert httpx.post(f"{url}/darkroom", json={}, trust_env=False).status_code == 400
            wait_until(lambda: _end(url, job.id) == "job.completed", what="the callback")
    numbers = [int(each.get_attribute("data-number") or 0) for each in shown.all()]
    assert numbers == [row["place"] for row in db.execute("SELECT place FROM notification ORDER BY place")]
