"""What a person sees in a browser: the run in Prefect's UI with its picture, and the API's documentation."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from uuid import UUID

import pytest
from playwright.sync_api import Page, expect, sync_playwright
from running import Stack
from support import SLOW

CHROMIUM = shutil.which("chromium")
# As root in a container, and without the calls home that a closed network refuses.
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync")
LOADED = "image => image.complete && image.naturalWidth"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(SLOW * 30_000)
        yield page
        browser.close()


def _enter_prefect(page: Page, stack: Stack) -> str:
    """Past the question for the auth string; returns the UI's address."""
    address = stack.environment["PREFECT_API_URL"].removesuffix("/api")
    page.goto(f"{address}/runs")
    page.locator("input[type=password]").fill(stack.environment["PREFECT_API_AUTH_STRING"])
    page.keyboard.press("Enter")
    expect(page.get_by_text("generate-image").first).to_be_visible(timeout=SLOW * 15_000)
    return address


def _completed(stack: Stack, prompt: str) -> UUID:
    job_id = stack.order(prompt)
    assert stack.ended(job_id)["status"] == "completed"
    flow_run_id = stack.flow_run_id(job_id)
    stack.in_state(flow_run_id, "Completed")
    return flow_run_id


def test_a_run_shows_its_steps_its_user_and_the_picture_itself(stack: Stack, prompt: str, page: Page) -> None:
    """Named steps, tags, no error in the log, and an image artifact that the browser really loads."""
    flow_run_id = _completed(stack, prompt)
    address = _enter_prefect(page, stack)
    page.goto(f"{address}/runs/flow-run/{flow_run_id}")
    for text in ("Completed", f"user:{stack.ledger.users.find('ann').id}", "plan:studio", "Beginning flow run"):
        expect(page.get_by_text(text).first).to_be_visible(timeout=SLOW * 15_000)
    assert page.get_by_text("ERROR", exact=True).count() == page.get_by_text("WARNING", exact=True).count() == 0
    page.get_by_text("Task Runs", exact=True).last.click()
    for step in ("submit generate", "store generate 0"):
        expect(page.get_by_text(step).first).to_be_visible(timeout=SLOW * 15_000)
    page.get_by_text("Artifacts", exact=True).last.click()
    page.locator("a[href*='/artifacts/artifact/']").first.click()
    picture = page.locator("img[src*='/v1/assets/']").first
    expect(picture).to_be_visible(timeout=SLOW * 15_000)
    assert picture.evaluate(LOADED) == 1024


def test_the_documentation_needs_nothing_from_outside(stack: Stack, page: Page) -> None:
    """It reads well on a private network: every operation is there, and nothing is loaded from another host."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{stack.gateway.base_url}/docs")
    for operation in ("/v1/images", "/v1/jobs", "/v1/jobs/{id}", "/v1/assets/{id}", "/readyz"):
        expect(page.get_by_role("link", name=operation, exact=True).first).to_be_visible(timeout=SLOW * 15_000)
    assert [url for url in asked if not url.startswith((str(stack.gateway.base_url), "data:"))] == []
