"""The Studio in Debian's chromium: live, by keyboard, in light and dark, narrow and wide, and with no other host."""

from __future__ import annotations

import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Literal

import pytest
from ledger_databases import Databases
from playwright.sync_api import expect
from running_gateway import RunningGateway, gateway_alone
from studio_browser import CHROMIUM, Browser, browsing
from support import SLOW

from darkroom.deployments.studio.routes import SCREENS
from darkroom.ledger import Job, JobStatus, Ledger, NewKey, RequestSpec, Scope
from darkroom.media.store import LocalFolder, MediaStore

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium")

SHOTS = os.environ.get("STUDIO_SHOTS")  # a folder for screenshots
PROMPTS = (
    "A fox in the snow at dawn, seen from a low angle, soft rim light, 85 mm, shallow depth of field, " * 3,
    "ثعلب يركض في الثلج عند الفجر",
    "黎明时分雪地里的一只狐狸",
    "<script>alert('no')</script>",
    "A-very-long-word-" + "x" * 150,
)
FAILED = {
    "code": "content_policy_violation",
    "class": "permanent",
    "message": "The content was flagged.",
    "step": "generate",
    "ref": None,
    "retryable": False,
}


@pytest.fixture(scope="module")
def ledger_url(databases: Databases) -> Iterator[str]:
    with databases.fresh() as url:
        yield url


@pytest.fixture(scope="module")
def gateway(ledger_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    home = tmp_path_factory.mktemp("home")
    with gateway_alone(ledger_url, home, media=MediaStore(LocalFolder(str(home)))) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def ann(ledger_url: str) -> NewKey:
    """Somebody with jobs in every state, in several scripts."""
    ledger = Ledger(ledger_url)
    key = ledger.users.add("ann", scopes=list(Scope))
    jobs = [post(ledger, key, prompt) for prompt in PROMPTS]
    ledger.jobs.finish(jobs[0].id, JobStatus.FAILED, error=FAILED)
    ledger.jobs.finish(jobs[1].id, JobStatus.COMPLETED)
    ledger.close()
    return key


def post(ledger: Ledger, key: NewKey, prompt: str) -> Job:
    cost, model = Decimal("0.025"), "fal-ai/flux/dev"
    first = RequestSpec(step="generate", endpoint=model, input={"prompt": prompt}, estimate_usd=cost)
    given = {"prompt": prompt}
    return ledger.jobs.post(user_id=key.user_id, kind="generate-image", parameters=given, first=first).job


def shot(browser: Browser, name: str) -> None:
    if SHOTS:
        browser.page.screenshot(path=str(Path(SHOTS) / f"{name}.png"), full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280, 2560])
def test_pages_are_for_everybody(
    gateway: RunningGateway, ann: NewKey, width: int, scheme: Literal["light", "dark"]
) -> None:
    """No violation of axe-core's, nothing cut off, no complaint of the browser, and nothing asked of another host."""
    with browsing(gateway, width=width, scheme=scheme) as browser:
        browser.page.goto(f"{gateway.url}/studio")
        shot(browser, f"sign-in-{width}-{scheme}")
        assert browser.violations() == []
        browser.sign_in(ann.key)
        for name, follow in {"watch": None, "job": "The failed one", "gallery": "/studio/gallery"}.items():
            if name == "job":
                browser.page.get_by_role("link", name="A fox in the snow").click()
            elif follow:
                browser.page.goto(f"{gateway.url}{follow}")
            expect(browser.page.locator("h1")).to_be_visible(timeout=SLOW * 15_000)
            shot(browser, f"{name}-{width}-{scheme}")
            assert browser.violations() == [] and browser.fits(), name
        for screen in SCREENS:
            browser.page.goto(f"{gateway.url}/studio{screen.path}")
            assert browser.fits(), screen.title
        assert browser.strangers() == []
        assert browser.complaints == []


def test_what_happens_is_seen_without_asking(gateway: RunningGateway, ann: NewKey, ledger: Ledger) -> None:
    """A new job comes on top of the list, and its row changes with it; nothing is asked for meanwhile."""
    with browsing(gateway) as browser:
        browser.sign_in(ann.key)
        expect(browser.page.locator("body[data-live=yes]")).to_be_attached(timeout=SLOW * 15_000)
        job = post(ledger, ann, "a heron at noon")
        row = browser.page.locator(f"[data-news='{job.id}']")
        expect(row).to_contain_text("a heron at noon", timeout=SLOW * 15_000)
        expect(row).to_contain_text("pending")
        before = len(browser.asked)
        ledger.jobs.finish(job.id, JobStatus.COMPLETED)
        expect(row).to_contain_text("completed", timeout=SLOW * 15_000)
        assert len(browser.asked) == before + 1
        assert browser.complaints == []


def test_a_job_is_cancelled_by_keyboard_alone(gateway: RunningGateway, ann: NewKey, ledger: Ledger) -> None:
    """From signing in to the toast."""
    job = post(ledger, ann, "an owl at midnight")
    with browsing(gateway) as browser:
        browser.sign_in(ann.key)
        press = browser.page.keyboard.press
        press("Tab")
        expect(browser.page.locator(".skip")).to_be_focused()
        press("Enter")
        browser.page.get_by_role("link", name="an owl at midnight").focus()
        press("Enter")
        browser.page.wait_for_url(f"**/{job.id}")
        browser.page.get_by_role("button", name="Cancel").focus()
        press("Enter")
        expect(browser.page.locator(".toast")).to_have_text("It is being cancelled.", timeout=SLOW * 15_000)
