"""A person in front of the Studio, for tests: the pages by httpx as a browser asks for them, and Debian's chromium."""

from __future__ import annotations

import html
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import httpx
import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page, sync_playwright
from support import SLOW

from darkroom.tls import tls_context

if TYPE_CHECKING:  # benchmarks have it by another name
    from running_gateway import RunningGateway

CHROMIUM = shutil.which("chromium")
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium")
SHOTS = os.environ.get("STUDIO_SHOTS")  # a folder for screenshots
# As root in a container, and without the calls home that a closed network refuses.
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync")
SIZES: tuple[tuple[int, Literal["light", "dark"]], ...] = ((360, "dark"), (2560, "light"), (1280, "light"))
HEIGHT = 900
PRESSES = 20  # of Tab, between two looks at what is left
USABLE = """() => {
  const all = document.querySelectorAll("a[href], button, input, select, textarea, summary");
  window.unreached = new Set([...all].filter((each) => each.tabIndex >= 0 && !each.disabled && each.checkVisibility()));
  document.addEventListener("focusin", (event) => unreached.delete(event.target));
  return [...unreached].map((each) => each.outerHTML);
}"""
UNREACHED = "() => [...unreached].filter((each) => each.isConnected).map((each) => each.outerHTML)"
OWN = {"Sec-Fetch-Site": "same-origin"}
_FURTHER = re.compile(r'<a class="button quiet" href="([^"]*cursor=[^"]*)"')
_TOKEN = re.compile(r'name="csrf" value="([0-9a-f]{64})"')


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """Pages without scripts, with a browser's cookies."""

    http: httpx.Client

    def sign_in(self, key: str) -> httpx.Response:
        return self.http.post("/studio/sign-in", data={"key": key}, headers=OWN)

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.http.get(path, headers={"Accept": "text/html"} | headers)

    def send(self, path: str, **given: str) -> httpx.Response:
        """A form of ours, with the token that is on the pages."""
        return self.http.post(path, data={"csrf": self.token()} | given, headers=OWN)

    def token(self) -> str:
        """What is in every form of the session."""
        return str(_TOKEN.findall(self.get("/studio/jobs").text)[0])


@contextmanager
def visiting(gateway: RunningGateway, key: str | None = None) -> Iterator[Visitor]:
    """Somebody before the Studio, signed in with that key."""
    with httpx.Client(base_url=gateway.url, trust_env=False, timeout=60, verify=tls_context()) as http:
        visitor = Visitor(http=http)
        if key is not None:
            assert visitor.sign_in(key).status_code == 303
        yield visitor


def rest_of(visitor: Visitor, page: str) -> str:
    """The next page of a list, by the link below it."""
    return visitor.get(html.unescape(_FURTHER.findall(page)[0])).text


def filled_in(page: str, action: str) -> dict[str, str]:
    """What a browser would send of the form, as it stands on the page; without its token."""
    reader = _Form(action)
    reader.feed(page)
    return {name: value for name, value in reader.found.items() if name != "csrf"}


class _Form(HTMLParser):
    """Reads the one form with that action. Where a text begins with a line break, browsers leave that out."""

    def __init__(self, action: str) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self._action, self._is_in, self._of = action, False, ""

    def handle_starttag(self, tag: str, given: list[tuple[str, str | None]]) -> None:
        has = dict(given)
        name = has.get("name") or ""
        if tag == "form":
            self._is_in = has.get("action") == self._action
        elif not self._is_in:
            return
        elif tag == "option" and ("selected" in has or self._of not in self.found):
            self.found[self._of] = has.get("value") or ""
        elif tag in ("textarea", "select"):
            self._of = name
            if tag == "textarea":
                self.found[name] = ""
        elif tag == "input" and name and _is_sent(has):
            self.found[name] = has.get("value") or ("on" if has.get("type") == "checkbox" else "")

    def handle_data(self, data: str) -> None:
        if self._is_in and self._of and self.get_starttag_text().startswith("<textarea"):
            self.found[self._of] += data

    def handle_endtag(self, tag: str) -> None:
        if tag in ("textarea", "select"):
            self._of = ""
        self._is_in = self._is_in and tag != "form"


def _is_sent(control: dict[str, str | None]) -> bool:
    kind = control.get("type")
    return kind != "file" and (kind != "checkbox" or "checked" in control)


class Site(Protocol):
    """What answers a browser."""

    @property
    def url(self) -> str: ...


@dataclass
class Browser:
    """A page in chromium, and what it asked for, complained of and failed to load."""

    page: Page
    url: str
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def sign_in(self, key: str) -> None:
        self.page.goto(f"{self.url}/studio")
        self.page.get_by_label("API key").fill(key)
        self.page.keyboard.press("Enter")
        self.page.wait_for_url(f"{self.url}/studio/jobs")  # in full: the sign-in's own address ends so, too

    def violations(self) -> list[str]:
        """What axe-core finds. Run past the page's policy, which lets in no script but the Studio's own."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE_SCRIPT)
        found = self.page.evaluate("axe.run({resultTypes: ['violations']}).then((found) => found.violations)")
        return [f"{each['id']}: {[node['html'] for node in each['nodes']]}" for each in found]

    def flaws(self, name: str) -> list[str]:
        """What is wrong with the page as it is, on each size of screen: what axe-core finds, and what is cut off."""
        found = []
        for width, scheme in SIZES:
            # Without transitions, as axe looks at once.
            self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            self.page.set_viewport_size({"width": width, "height": HEIGHT})
            self.shot(f"{name}-{width}-{scheme}")
            wrong = self.violations() + ([] if self.fits() else ["does not fit"])
            found += [f"{name} at {width}, {scheme}: {each}" for each in wrong]
        return found

    def fits_everywhere(self) -> bool:
        found = []
        for width, _ in SIZES:
            self.page.set_viewport_size({"width": width, "height": HEIGHT})
            found.append(self.fits())
        return all(found)

    def fits(self) -> bool:
        """Nothing is cut off or scrolls sideways."""
        wide: bool = self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        return wide

    def unreached(self) -> list[str]:
        """What can be used on the page and has no focus after Tab was pressed through all of it."""
        left = list[str](self.page.evaluate(USABLE))
        for _ in range(len(left) // PRESSES * 3 + 4):  # dates and players take several
            if not left:
                break
            for _ in range(PRESSES):
                self.page.keyboard.press("Tab")
            left = self.page.evaluate(UNREACHED)
        return left

    def shot(self, name: str) -> None:
        """For people to look at, where they ask for it."""
        if SHOTS:
            seen = "[...document.images].filter((image) => image.getBoundingClientRect().top < innerHeight)"
            self.page.evaluate(f"Promise.all({seen}.map((image) => image.decode()))")
            self.page.screenshot(path=str(Path(SHOTS) / f"{name}.png"), full_page=True)

    def strangers(self) -> list[str]:
        """Addresses of other hosts that the page has asked for."""
        return [each for each in self.asked if not each.startswith((self.url, f"blob:{self.url}", "data:"))]


@contextmanager
def chromium_started() -> Iterator[Chromium]:
    """No coroutine can be run in this thread meanwhile."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield chromium
        chromium.close()


@contextmanager
def browsing(
    site: Site,
    chromium: Chromium | None = None,
) -> Iterator[Browser]:
    """A browser with nothing kept, in that chromium, or in one of its own."""
    with ExitStack() as opened:
        chromium = chromium or opened.enter_context(chromium_started())
        context = chromium.new_context(viewport={"width": 1280, "height": HEIGHT})
        context.set_default_timeout(SLOW * 30_000)
        browser = Browser(page=context.new_page(), url=site.url)
        browser.page.on("request", lambda request: browser.asked.append(request.url))
        browser.page.on("console", lambda said: said.type == "error" and browser.complaints.append(said.text))
        browser.page.on("pageerror", lambda error: browser.complaints.append(str(error)))
        yield browser
        context.close()
