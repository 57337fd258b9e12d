"""Money and Operators in Debian's chromium: for everybody, in light and dark, narrow and wide, and by keyboard."""

from __future__ import annotations

from decimal import Decimal

import pytest
from ledger_scenes import FAILURE, SUCCESS, post
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import expect
from running_gateway import RunningGateway
from shared_gateway import gateway as gateway
from shared_gateway import home as home
from shared_gateway import ledger_url as ledger_url
from studio_browser import browsing, in_a_browser
from support import SLOW

from darkroom.ledger import JobStatus, Ledger, NewKey, Scope

pytestmark = in_a_browser

NAMES = ("ben", "زينب", "小明", "a-customer-with-a-very-long-name-" + "x" * 60)
PAGES = {
    "money": "/studio/money",
    "callbacks": "/studio/money/callbacks",
    "keys": "/studio/money/keys",
    "operators": "/studio/operators",
    "runs": "/studio/operators/runs",
    "users": "/studio/operators/users",
    "plans": "/studio/operators/plans",
    "dead-letters": "/studio/operators/dead-letters",
    "cause": "/studio/operators/dead-letters/cause?code=download_failed&class=retry&kind=generate-image",
    "models": "/studio/operators/models?q=flux",
    "model": "/studio/operators/models/fal-ai/flux/dev",
    "refused": "/studio/money?since=2030-02-01&until=2030-01-01",
}


@pytest.fixture(scope="module")
def ann(ledger_url: str) -> NewKey:
    """An operator who has spent, been told, and looks after users who wait and fail."""
    ledger = Ledger(ledger_url)
    key = ledger.users.add("ann", scopes=list(Scope))
    ledger.users.set_budgets(key.user_id, {"daily_budget_usd": Decimal("0.3"), "monthly_budget_usd": Decimal(40)})
    ledger.users.set_account("fal", slots=2)
    for number, tag in enumerate(("spring", "ربيع", "春天", None, "spring", "a-very-long-tag-" + "x" * 80)):
        model = ("fal-ai/flux/dev", "openai/gpt-image-2", "fal-ai/veo3")[number % 3]
        job = post(ledger, key.user_id, endpoint=model)
        with ledger._engine.begin() as connection:
            tags = [tag] if tag else []
            connection.exec_driver_sql("UPDATE job SET tags = %s WHERE id = %s", (tags, job.id))
        ledger.requests.settle(ledger.requests.of_job(job.id)[0].ref, SUCCESS, via="webhook")
    lost = post(ledger, key.user_id)
    with ledger._engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE request SET status = 'expired', submitted_at = created_at, finished_at = now() WHERE job_id = %s",
            (lost.id,),
        )
    for name in NAMES:
        user_id = ledger.users.add(name).user_id
        for code in ("download_failed", "content_policy_violation")[: 1 + len(name) % 2]:
            job = post(ledger, user_id)
            ledger.requests.settle(ledger.requests.of_job(job.id)[0].ref, FAILURE, via="webhook")
            error = {"code": code, "class": "retry", "message": "The file could not be loaded. " * 4, "step": None}
            ledger.jobs.finish(job.id, JobStatus.FAILED, error=error | {"ref": None, "retryable": True})
        for _ in range(len(name)):
            post(ledger, user_id)
    ledger.grants.grant()
    ledger.accounts.slow_down("fal")
    ledger.accounts.out("gemini", probe=False, reason="The key is refused.")
    ledger.callbacks.put_endpoint(key.user_id, url="https://example.com/hook", events=["job"], thin=False)
    for _ in range(2):
        ledger.callbacks.test(key.user_id)
    ledger.callbacks.drop_endpoint(key.user_id)
    ledger.callbacks.put_endpoint(key.user_id, url="https://shop.example.com/darkroom", events=["job"], thin=False)
    ledger.close()
    return key


def test_pages_are_for_everybody(gateway: RunningGateway, chromium: Chromium, ann: NewKey) -> None:
    """No violation of axe-core's, nothing cut off, and nothing asked of another host."""
    with browsing(gateway, chromium) as browser:
        browser.sign_in(ann.key)
        for name, path in PAGES.items():
            browser.page.goto(f"{gateway.url}{path}")
            expect(browser.page.locator("h1")).to_be_visible(timeout=SLOW * 15_000)
            assert browser.flaws(name) == []
        browser.page.goto(f"{gateway.url}/studio/operators/users?q=ann")
        browser.page.get_by_role("link", name="ann", exact=True).click()
        expect(browser.page.get_by_role("heading", name="Make a key")).to_be_visible(timeout=SLOW * 15_000)
        assert browser.flaws("user") == []
        assert browser.strangers() == []


def test_an_application_is_told_again_by_keyboard_alone(
    gateway: RunningGateway, chromium: Chromium, ann: NewKey, ledger: Ledger
) -> None:
    """A test is sent, the delivery that was given up goes again, and what was spent is asked for another time."""
    with browsing(gateway, chromium) as browser:
        browser.sign_in(ann.key)
        page, press = browser.page, browser.page.keyboard.press
        page.goto(f"{gateway.url}/studio/money")
        page.get_by_role("link", name="Callbacks").focus()
        press("Enter")
        page.get_by_role("button", name="Send a test").focus()
        press("Enter")
        expect(page.locator(".toast")).to_contain_text("callback.test", timeout=SLOW * 15_000)
        page.get_by_role("button", name="Resend").first.focus()
        press("Space")
        expect(page.locator(".toast")).to_have_text("It is sent again.", timeout=SLOW * 15_000)
        page.get_by_role("link", name="Spending").focus()
        press("Enter")
        page.get_by_label("From").fill("2026-01-01")
        press("Enter")
        expect(page.get_by_role("heading", name="01 Jan 2026 to")).to_be_visible(timeout=SLOW * 15_000)
        assert browser.complaints == []


def test_a_key_is_made_and_ended_by_keyboard_alone(
    gateway: RunningGateway, chromium: Chromium, ann: NewKey, ledger: Ledger
) -> None:
    """It is in focus on its page, to be copied, and on no other."""
    with browsing(gateway, chromium) as browser:
        browser.sign_in(ann.key)
        page, press = browser.page, browser.page.keyboard.press
        page.goto(f"{gateway.url}/studio/operators/users/{ann.user_id}")
        page.get_by_label("What it is for").focus()
        page.keyboard.type("night watch")
        press("Enter")
        secret = page.locator("input.secret")
        expect(secret).to_be_focused(timeout=SLOW * 15_000)
        key = secret.input_value()
        assert ledger.users.authenticate(key) is not None
        browser.shot("new-key")
        assert browser.violations() == [] and browser.fits()
        press("Tab")
        press("Enter")
        row = page.get_by_role("row", name="night watch")
        expect(row).to_contain_text("open", timeout=SLOW * 15_000)
        assert key not in page.content()
        row.get_by_role("button").focus()
        press("Enter")
        expect(page.locator(".toast")).to_contain_text("The key has ended", timeout=SLOW * 15_000)
        assert ledger.users.authenticate(key) is None
