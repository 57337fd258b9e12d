"""The Studio in Debian's chromium: live, by keyboard, in light and dark, narrow and wide, and with no other host."""

from __future__ import annotations

from decimal import Decimal

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import expect
from running_gateway import RunningGateway
from shared_gateway import gateway as gateway
from shared_gateway import home as home
from shared_gateway import ledger_url as ledger_url
from studio_browser import browsing, in_a_browser
from support import SLOW

from darkroom.deployments.studio.routes import SCREENS
from darkroom.deployments.studio.screens import Screen
from darkroom.ledger import Job, JobStatus, Ledger, NewKey, RequestSpec, Scope

pytestmark = in_a_browser

PROMPTS = (
    "A fox in the snow at dawn, seen from a low angle, soft rim light, 85 mm, shallow depth of field, " * 3,
    "ثعلب يركض في الثلج عند الفجر",
    "黎明时分雪地里的一只狐狸",
    "<script>alert('no')</script>",
    "A-very-long-word-" + "x" * 150,
)
FORMS = {
    "/order": ("/form?kind=run-model&model=fal-ai/flux/dev", "/form?kind=edit-image", "/pipelines"),
    "/batches": ("/new",),
    "/loras": ("/new",),
    "/money": ("/callbacks", "/keys"),
    "/operators": ("/users", "/plans", "/models/fal-ai/flux/dev", "/dead-letters"),
}
FAILED = {
    "code": "content_policy_violation",
    "class": "permanent",
    "message": "The content was flagged.",
    "step": "generate",
    "ref": None,
    "retryable": False,
}


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


def test_pages_are_for_everybody(gateway: RunningGateway, chromium: Chromium, ann: NewKey) -> None:
    """No violation of axe-core's, nothing cut off, no complaint of the browser, and nothing asked of another host."""
    with browsing(gateway, chromium) as browser:
        browser.page.goto(f"{gateway.url}/studio")
        assert browser.flaws("sign-in") == []
        browser.sign_in(ann.key)
        for name, follow in {"watch": None, "job": "The failed one", "gallery": "/studio/gallery"}.items():
            if name == "job":
                browser.page.get_by_role("link", name="A fox in the snow").click()
            elif follow:
                browser.page.goto(f"{gateway.url}{follow}")
            expect(browser.page.locator("h1")).to_be_visible(timeout=SLOW * 15_000)
            assert browser.flaws(name) == []
        for screen in SCREENS:
            browser.page.goto(f"{gateway.url}/studio{screen.path}")
            assert browser.fits_everywhere(), screen.title
        assert browser.strangers() == []
        assert browser.complaints == []


def test_what_happens_is_seen_without_asking(
    gateway: RunningGateway, chromium: Chromium, ann: NewKey, ledger: Ledger
) -> None:
    """A new job comes on top of the list, and its row changes with it; nothing is asked for meanwhile."""
    with browsing(gateway, chromium) as browser:
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


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.title)
def test_every_control_is_reached_with_tab(
    gateway: RunningGateway, chromium: Chromium, ann: NewKey, screen: Screen
) -> None:
    """On each of the seven, and on its forms; nothing holds the focus for ever."""
    with browsing(gateway, chromium) as browser:
        browser.sign_in(ann.key)
        for path in ("", *FORMS.get(screen.path, ())):
            browser.page.goto(f"{gateway.url}/studio{screen.path}{path}")
            assert browser.unreached() == [], path


def test_older_jobs_come_as_one_scrolls(gateway: RunningGateway, chromium: Chromium, ledger: Ledger) -> None:
    """In the place of the link, on the page that is there; and where it is followed, too."""
    key = ledger.users.add("one with many")  # the other tests' pages stay short
    with browsing(gateway, chromium) as browser:
        browser.sign_in(key.key)
        page = browser.page
        first, *_ = [post(ledger, key, "a kite") for _ in range(35)]
        for does in ("link => link.scrollIntoView()", "link => link.click()"):
            page.goto(f"{gateway.url}/studio/jobs?q=kite")
            page.get_by_role("link", name="Show older jobs").evaluate(does)
            expect(page.locator(f"[data-news='{first.id}']")).to_be_attached(timeout=SLOW * 15_000)
            expect(page.locator("#jobs .row")).to_have_count(35)
            expect(page).to_have_url(f"{gateway.url}/studio/jobs?q=kite")
        assert browser.complaints == []


def test_a_page_that_has_grown_long_is_loaded_anew(
    gateway: RunningGateway, chromium: Chromium, ann: NewKey, ledger: Ledger
) -> None:
    """With the next news, and not while somebody is in the middle of it."""
    with browsing(gateway, chromium) as browser:
        browser.sign_in(ann.key)
        page = browser.page
        expect(page.locator("body[data-live=yes]")).to_be_attached(timeout=SLOW * 15_000)
        page.evaluate("document.body.dataset.old = 'yes'; document.getElementById('jobs').dataset.most = '2'")
        page.get_by_label("Text in the order").focus()
        first = post(ledger, ann, "a wren")
        expect(page.locator(f"[data-news='{first.id}']")).to_be_attached(timeout=SLOW * 15_000)
        expect(page.locator("body[data-old]")).to_be_attached()
        page.get_by_label("Text in the order").blur()
        second = post(ledger, ann, "a robin")
        expect(page.locator("body:not([data-old])")).to_be_attached(timeout=SLOW * 15_000)
        expect(page.locator(f"[data-news='{second.id}']")).to_be_attached(timeout=SLOW * 15_000)
        assert browser.complaints == []


def test_a_job_is_cancelled_by_keyboard_alone(
    gateway: RunningGateway, chromium: Chromium, ann: NewKey, ledger: Ledger
) -> None:
    """From signing in to the toast."""
    job = post(ledger, ann, "an owl at midnight")
    with browsing(gateway, chromium) as browser:
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
