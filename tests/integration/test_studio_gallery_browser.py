"""Ordering and the gallery in Debian's chromium: the price while typing, by keyboard alone, narrow and wide."""

from __future__ import annotations

import colorsys
import re
from pathlib import Path

import pytest
from asset_rows import made, picture
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import expect
from running_gateway import RunningGateway
from shared_gateway import gateway as gateway
from shared_gateway import home as home
from shared_gateway import ledger_url as ledger_url
from shared_gateway import store as store
from studio_browser import HEIGHT, Browser, browsing, in_a_browser
from support import SLOW

from darkroom.ledger import Ledger, NewKey
from darkroom.media.store import MediaStore

pytestmark = in_a_browser

COLUMNS = "getComputedStyle(document.querySelector('.files')).gridTemplateColumns.split(' ').length"
LONG = SLOW * 15_000
FLUX = "fal-ai/flux/dev"
PROMPTS = (
    "A fox in the snow at dawn, seen from a low angle, soft rim light, 85 mm, shallow depth of field, " * 3,
    "ثعلب يركض في الثلج عند الفجر",
    "黎明时分雪地里的一只狐狸",
    "A-very-long-word-" + "x" * 150,
    "A harbour in fog",
    "An owl at midnight",
    "Tulips, macro",
    "A lighthouse in a storm",
    "A red chair",
)


@pytest.fixture(scope="module")
def ann(ledger_url: str, store: MediaStore) -> NewKey:
    """Somebody with files of every kind, in several scripts."""
    ledger = Ledger(ledger_url)
    key = ledger.users.add("ann", plan="studio")
    made(
        ledger, store, key, prompt="A chair", model="fal-ai/trellis", content_type="model/gltf-binary", content=b"glTF"
    )
    made(ledger, store, key, prompt="A slow waltz", model="fal-ai/stable-audio", content_type="audio/mpeg", seconds=31)
    for n, prompt in enumerate(PROMPTS):
        made(ledger, store, key, prompt=prompt, model=FLUX, content=picture(_colour(n)), tags=("spring", "shop-7"))
    ledger.close()
    return key


def _colour(n: int) -> str:
    red, green, blue = colorsys.hls_to_rgb(n * 0.13 % 1, 0.5, 0.45)
    return f"#{int(red * 255):02x}{int(green * 255):02x}{int(blue * 255):02x}"


def first_file(browser: Browser) -> str:
    link = browser.page.locator(".file .row-title").first
    return f"{browser.url}{link.get_attribute('href')}"


def test_pages_are_for_everybody(gateway: RunningGateway, chromium: Chromium, ann: NewKey) -> None:
    """No violation of axe-core's, nothing cut off, no complaint of the browser, and nothing asked of another host."""
    with browsing(gateway, chromium) as browser:
        browser.sign_in(ann.key)
        browser.page.goto(f"{gateway.url}/studio/gallery")
        asset = first_file(browser).rpartition("/")[2]
        pages = {
            "gallery": "gallery",
            "file": f"gallery/{asset}",
            "order": "order",
            "order-model": "order/form?kind=run-model&model=fal-ai/flux/dev",
            "order-edit": f"order/form?kind=edit-image&file={asset}&post=upscale",
            "pipelines": "order/pipelines",
        }
        for name, path in pages.items():
            browser.page.goto(f"{gateway.url}/studio/{path}")
            expect(browser.page.locator("h1")).to_be_visible(timeout=LONG)
            if name.startswith("order-"):
                expect(browser.page.locator("#quote .quiet-text")).not_to_have_text(
                    "Shown as you fill in the form.", timeout=LONG
                )
                for fold in browser.page.locator("details.folded").all():
                    fold.evaluate("each => { each.open = true; }")
            assert browser.flaws(name) == []
            if name == "gallery":  # a wide screen is full of pictures, and a narrow one shows them large
                for width, columns in {360: 1, 1280: 4, 2560: 9}.items():
                    browser.page.set_viewport_size({"width": width, "height": HEIGHT})
                    assert browser.page.evaluate(COLUMNS) == columns
        assert browser.strangers() == [] and browser.complaints == []


def test_new_files_come_on_top_by_themselves(
    gateway: RunningGateway, chromium: Chromium, ledger_url: str, store: MediaStore, ann: NewKey
) -> None:
    """Each once, with nothing asked for between; only those that are looked for; and onto a page that had none."""
    ledger = Ledger(ledger_url)
    with browsing(gateway, chromium) as browser:
        browser.sign_in(ann.key)
        page, live = browser.page, browser.page.locator("body[data-live=yes]")
        page.goto(f"{gateway.url}/studio/gallery?q=kingfisher&kind=image")
        expect(live).to_be_attached(timeout=LONG)
        expect(page.locator(".empty")).to_be_visible()
        for n, prompt in enumerate(("A kingfisher at dawn", "A heron", "A kingfisher at dusk")):
            made(ledger, store, ann, prompt=prompt, model=FLUX, content=picture(_colour(n)))
            if n == 0:
                expect(page.locator(".file")).to_have_count(1, timeout=LONG)
                expect(live).to_be_attached(timeout=LONG)
        titles = page.locator(".file .row-title")
        expect(titles).to_have_text(["A kingfisher at dusk", "A kingfisher at dawn"], timeout=LONG)
        assert browser.complaints == []
    ledger.close()


def test_a_price_is_told_while_typing_and_the_order_placed_by_keyboard(
    gateway: RunningGateway, chromium: Chromium, ann: NewKey
) -> None:
    """From the model's name to the job's page, an error mended on the way."""
    with browsing(gateway, chromium) as browser:
        browser.sign_in(ann.key)
        page, press = browser.page, browser.page.keyboard.press
        page.goto(f"{gateway.url}/studio/order?q=flux/dev")
        page.get_by_role("link", name="FLUX.1 [dev]").focus()
        press("Enter")
        page.get_by_label("Prompt (required)").focus()
        page.keyboard.type("a heron at noon")
        price = page.locator("#quote .price")
        expect(price).to_have_text("$0.025", timeout=LONG)
        page.locator("summary", has_text="More settings").focus()
        press("Enter")
        number = page.get_by_label("Num images", exact=True)
        number.focus()
        page.keyboard.type("9")
        expect(page.locator("#error-input-num-images")).to_contain_text("use a number from 1 to", timeout=LONG)
        browser.shot("order-error-1280-light")
        assert browser.violations() == []
        press("Backspace")
        page.keyboard.type("2")
        expect(price).to_have_text("$0.05", timeout=LONG)
        expect(page.locator("#error-input-num-images")).to_have_text("")
        page.get_by_role("button", name="Order").focus()
        press("Enter")
        page.wait_for_url("**/studio/jobs/job_*")
        expect(page.locator(".toast")).to_contain_text("Ordered.", timeout=LONG)
        assert browser.complaints == []


def test_a_slider_and_its_number_are_one(gateway: RunningGateway, chromium: Chromium, ann: NewKey) -> None:
    """The number is what is sent."""
    with browsing(gateway, chromium) as browser:
        browser.sign_in(ann.key)
        page = browser.page
        page.goto(f"{gateway.url}/studio/order/form?kind=run-model&model={FLUX}")
        page.locator("summary", has_text="More settings").click()
        slider, number = page.get_by_label("Num images, slider"), page.get_by_label("Num images", exact=True)
        slider.focus()
        page.keyboard.press("End")
        expect(number).to_have_value("4")
        number.fill("2")
        expect(slider).to_have_value("2")


def test_a_file_is_brought_by_the_mouse_and_seen_in_the_form(
    gateway: RunningGateway, chromium: Chromium, ann: NewKey, tmp_path: Path
) -> None:
    """At once; the field has its name, and what was typed beside it stays."""
    (tmp_path / "fox.png").write_bytes(picture())
    with browsing(gateway, chromium) as browser:
        browser.sign_in(ann.key)
        page = browser.page
        page.goto(
            f"{gateway.url}/studio/order/form?kind=run-model&model=fal-ai/kling-video/v2.5-turbo/pro/image-to-video"
        )
        page.get_by_label("Prompt (required)").fill("it runs")
        page.locator("#file-input-image-url").set_input_files(tmp_path / "fox.png")
        expect(page.locator("#in-input-image-url")).to_have_value(re.compile("^asset:ast_"), timeout=LONG)
        expect(page.locator("#quote .price")).to_have_text("$0.35", timeout=LONG)
        expect(page.get_by_label("Prompt (required)")).to_have_value("it runs")
        assert browser.complaints == []


def test_two_are_compared_and_one_deleted_by_keyboard(gateway: RunningGateway, chromium: Chromium, ann: NewKey) -> None:
    """Ticked by space, side by side, and back; a deletion is asked about first."""
    with browsing(gateway, chromium) as browser:
        browser.sign_in(ann.key)
        page, press = browser.page, browser.page.keyboard.press
        page.goto(f"{gateway.url}/studio/gallery?kind=image")
        for n in (0, 1):
            page.locator(".file input[type=checkbox]").nth(n).focus()
            press("Space")
        page.get_by_role("button", name="Compare").focus()
        press("Enter")
        expect(page.locator(".side-by-side .card")).to_have_count(2, timeout=LONG)
        browser.shot("compare-1280-light")
        assert browser.violations() == [] and browser.fits()
        page.locator(".side-by-side h2 a").first.focus()
        press("Enter")
        page.locator("summary", has_text="Delete").focus()
        press("Enter")
        page.get_by_role("button", name="Delete this file").focus()
        press("Enter")
        expect(page.locator(".toast")).to_have_text("The file is deleted.", timeout=LONG)
        assert browser.complaints == []
