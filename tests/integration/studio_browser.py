"""A person in front of the Studio, for tests: the pages by httpx as a browser asks for them, and Debian's chromium."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import httpx
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, sync_playwright

if TYPE_CHECKING:  # benchmarks have it by another name
    from running_gateway import RunningGateway

CHROMIUM = shutil.which("chromium")
# As root in a container, and without the calls home that a closed network refuses.
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync")
OWN = {"Sec-Fetch-Site": "same-origin"}
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
    with httpx.Client(base_url=gateway.url, trust_env=False, timeout=60) as http:
        visitor = Visitor(http=http)
        if key is not None:
            assert visitor.sign_in(key).status_code == 303
        yield visitor


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
        found = Axe().run(self.page).response["violations"]
        return [f"{each['id']}: {[node['html'] for node in each['nodes']]}" for each in found]

    def fits(self) -> bool:
        """Nothing is cut off or scrolls sideways."""
        wide: bool = self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        return wide

    def strangers(self) -> list[str]:
        """Addresses of other hosts that the page has asked for."""
        return [each for each in self.asked if not each.startswith((self.url, f"blob:{self.url}", "data:"))]


@contextmanager
def browsing(site: Site, *, width: int = 1280, scheme: Literal["light", "dark"] = "light") -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        browser = Browser(page=context.new_page(), url=site.url)
        browser.page.on("request", lambda request: browser.asked.append(request.url))
        browser.page.on("console", lambda said: said.type == "error" and browser.complaints.append(said.text))
        browser.page.on("pageerror", lambda error: browser.complaints.append(str(error)))
        yield browser
        chromium.close()
