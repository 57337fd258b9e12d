"""The Studio of somebody with a thousand jobs and ten thousand pictures: what its pages weigh and cost the server, and
how it goes in a browser while fifty pieces of news come a second.

Times are told, and not held to a bound: they are the machine's. Bytes and ratios are the Studio's own.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psutil
import pytest
from integration.running_gateway import NO_PREFECT, GatewayProcess, gateway_process
from integration.studio_browser import CHROMIUM, Browser, Visitor, browsing, visiting
from ledger_databases import Databases
from playwright.sync_api import CDPSession
from sqlalchemy import text

from darkroom.ledger import Job, Ledger, NewKey

JOBS, PICTURES_OF_A_JOB = 1_000, 10
MOST_BYTES = 300_000  # of a page, without pictures
MOST_DEARER = 2.0  # than the same page of somebody who has no more than is on it
PAGES = ("jobs", "gallery", "batches", "loras", "order", "money")
LISTS = ("jobs", "gallery")
TIMES = 30  # each page is loaded
FIRST_PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
NEWS_A_SECOND, SECONDS = 50, 10
ROUNDS = 60  # of news to every job of a page
MOST_MORE = 1.15  # of nodes and heap after twice the news
STREAMS = 90
LONG_TASKS = """
window.longTasks = [];
new PerformanceObserver((seen) => longTasks.push(...seen.getEntries().map((each) => each.duration)))
  .observe({ type: "longtask", buffered: true });
"""
FILL = """
INSERT INTO job (id, user_id, kind, status, slotless, parameters, created_at, started_at, finished_at)
SELECT 'job_' || :user_id || lpad(n::text, 6, '0'), :user_id, 'generate-image', 'completed', false,
    jsonb_build_object('prompt', repeat('a fox in the snow at dawn, soft rim light ', 3) || n), at, at, at
FROM generate_series(1, :jobs) AS n CROSS JOIN LATERAL (SELECT now() - n * interval '1 min' AS at) AS began;
INSERT INTO request (ref, job_id, user_id, account_id, step, attempt, endpoint, input, input_hash, lane, status, token,
    request_id, estimate_usd, cost_usd, bill_closed, created_at, granted_at, submitted_at, finished_at, output)
SELECT 'req' || id, id, user_id, 'fal', 'generate', 1, 'fal-ai/flux/dev', '{}', '', 1, 'succeeded', md5(id), 'p' || id,
    0.025, 0.025, true, created_at, created_at, created_at, created_at, '{}'
FROM job WHERE user_id = :user_id;
INSERT INTO asset (id, job_id, user_id, ref, step, n, key, sha256, content_type, bytes, width, height, hidden,
    created_at)
SELECT 'ast' || job.id || n, job.id, user_id, 'req' || job.id, 'generate', n,
    'images/' || user_id || '/' || job.id || '/generate-' || n || '.jpg', repeat('0', 64), 'image/jpeg', 250000,
    1024, 768, false, job.created_at
FROM job CROSS JOIN generate_series(1, :pictures) AS n WHERE user_id = :user_id;
"""


@pytest.fixture
def ledger_url(databases: Databases) -> Iterator[str]:
    with databases.fresh() as url:
        yield url


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    with closing(Ledger(ledger_url)) as ledger:
        ledger.users.set_account("fal", slots=0)  # nothing is carried out
        yield ledger


@pytest.fixture
def gateway(ledger_url: str, tmp_path: Path) -> Iterator[GatewayProcess]:
    environment = os.environ | {
        "DARKROOM_HOME": str(tmp_path),
        "DARKROOM_LEDGER_URL": ledger_url,
        "DARKROOM_SIGNING_KEY": "k",
        "PREFECT_API_URL": NO_PREFECT,
    }
    with gateway_process(environment, tmp_path / "log", anew=True) as gateway:
        yield gateway


def filled(ledger: Ledger, name: str, *, jobs: int, pictures: int) -> NewKey:
    """Somebody with that many, made straight in the ledger."""
    key = ledger.users.add(name, plan="studio")
    with ledger._engine.begin() as connection:
        for statement in filter(str.strip, FILL.split(";\n")):
            given = {"user_id": key.user_id, "jobs": jobs, "pictures": pictures}
            connection.execute(text(statement), {each: given[each] for each in given if f":{each}" in statement})
    with ledger._engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE job, request, asset"))
    return key


@pytest.mark.timeout(600)
@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium")
def test_a_page_is_small_and_costs_no_more_for_who_has_much(ledger: Ledger, gateway: GatewayProcess) -> None:
    """By the server's CPU, against somebody with one page of each."""
    ann = filled(ledger, "ann", jobs=JOBS, pictures=PICTURES_OF_A_JOB)
    bob = filled(ledger, "bob", jobs=30, pictures=2)
    server = psutil.Process(gateway.process.pid)
    with visiting(gateway, ann.key) as much, visiting(gateway, bob.key) as little:
        sizes = {page: len(much.get(f"/studio/{page}").content) for page in PAGES}
        spent = {page: (cpu_ms(server, much, page), cpu_ms(server, little, page)) for page in LISTS}
    lines = [f"{page}: {size / 1000:.0f} KB" for page, size in sizes.items()]
    lines += [f"{page}: {ms:.1f} ms of CPU, for who has one page {least:.1f} ms" for page, (ms, least) in spent.items()]
    print("", *lines, *in_a_browser(ledger, gateway, ann), sep="\n")
    assert max(sizes.values()) <= MOST_BYTES
    assert all(ms <= MOST_DEARER * least for ms, least in spent.values())


@pytest.mark.timeout(600)
@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium")
def test_an_open_page_stays_as_large_as_it_was(ledger: Ledger, gateway: GatewayProcess) -> None:
    """In its nodes and its heap, however much news has come; and a page more is little to the server."""
    ann = filled(ledger, "ann", jobs=100, pictures=PICTURES_OF_A_JOB)
    live = [post(ledger, ann, n).id for n in range(NEWS_A_SECOND)]
    kept = list[dict[str, int]]()
    with browsing(gateway) as browser:
        browser.sign_in(ann.key)
        browser.page.locator("body[data-live=yes]").wait_for(state="attached")
        for number in range(ROUNDS):
            for id in live:
                ledger.jobs.progress(id, number, f"{number} of {ROUNDS}")
            browser.page.wait_for_timeout(500)
            if number % (ROUNDS // 2) == ROUNDS // 2 - 1:
                kept.append(kept_by(browser))
        assert browser.complaints == []
    before, after = kept
    print("", f"after {NEWS_A_SECOND * ROUNDS // 2:,} pieces of news {before}, after as many more {after}", sep="\n")
    print(f"a page more: {bytes_of_a_stream(gateway, ann) / 1000:.0f} kB of the server's memory")
    # Listeners of what was taken out of the page are collected when the browser pleases.
    assert all(after[name] <= MOST_MORE * before[name] for name in ("Nodes", "JSHeapUsedSize"))


def bytes_of_a_stream(gateway: GatewayProcess, ann: NewKey) -> float:
    """What each page that is open adds to the gateway: one stream."""
    server, host, port = psutil.Process(gateway.process.pid), *gateway.url.removeprefix("http://").split(":")
    asked = f"GET /v1/stream HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {ann.key}\r\n\r\n".encode()
    with ExitStack() as streams:
        sizes = list[int]()
        for count in (STREAMS // 5, STREAMS - STREAMS // 5):  # the first ones bring what is there once
            for _ in range(count):
                stream = streams.enter_context(socket.create_connection((host, int(port))))
                stream.sendall(asked)
                assert b"200 OK" in stream.recv(4096)
            sizes.append(server.memory_info().rss)
        return (sizes[1] - sizes[0]) / (STREAMS - STREAMS // 5)


def kept_by(browser: Browser) -> dict[str, int]:
    """What the page has, without what the next collection would take."""
    with closing_session(browser) as chromium:
        chromium.send("HeapProfiler.collectGarbage")
        chromium.send("Performance.enable")
        found = {each["name"]: each["value"] for each in chromium.send("Performance.getMetrics")["metrics"]}
    return {name: int(found[name]) for name in ("Nodes", "JSEventListeners", "JSHeapUsedSize")}


@contextmanager
def closing_session(browser: Browser) -> Iterator[CDPSession]:
    session = browser.page.context.new_cdp_session(browser.page)
    try:
        yield session
    finally:
        session.detach()


def cpu_ms(server: psutil.Process, visitor: Visitor, page: str) -> float:
    """Of the gateway, for one load."""
    visitor.get(f"/studio/{page}")
    before = server.cpu_times()
    for _ in range(TIMES):
        assert visitor.get(f"/studio/{page}").status_code == 200
    after = server.cpu_times()
    return (after.user + after.system - before.user - before.system) * 1000 / TIMES


def post(ledger: Ledger, key: NewKey, n: int) -> Job:
    return ledger.jobs.post(user_id=key.user_id, kind="generate-image", parameters={"prompt": f"a heron, {n}"}).job


def in_a_browser(ledger: Ledger, gateway: GatewayProcess, ann: NewKey) -> list[str]:
    """What the browser says of tasks over 50 ms while jobs on its page come further, so many a second."""
    live = [post(ledger, ann, n).id for n in range(NEWS_A_SECOND)]
    with browsing(gateway) as browser:
        browser.page.add_init_script(LONG_TASKS)
        browser.sign_in(ann.key)
        browser.page.locator("body[data-live=yes]").wait_for(state="attached")
        browser.page.wait_for_timeout(1000)
        loading = browser.page.evaluate("longTasks.splice(0)")
        paints = {"jobs": browser.page.wait_for_function(FIRST_PAINT).json_value()}
        began = time.monotonic()
        for second in range(1, SECONDS + 1):
            for id in live:
                ledger.jobs.progress(id, second, f"{second} of {SECONDS}")
            browser.page.wait_for_timeout(max(began + second * 1.02 - time.monotonic(), 0) * 1000)
        took = time.monotonic() - began
        tasks = browser.page.evaluate("longTasks")
        assert browser.complaints == []
        browser.page.goto(f"{gateway.url}/studio/gallery", wait_until="load")  # its files are on record alone
        paints["gallery"] = browser.page.wait_for_function(FIRST_PAINT).json_value()
    return [
        *(f"{name}: first paint after {paint:.0f} ms" for name, paint in paints.items()),
        f"{NEWS_A_SECOND * SECONDS / took:.0f} news a second for {took:.0f} s: {told(tasks)}",
        f"while the page loads: {told(loading)}",
    ]


def told(tasks: list[float]) -> str:
    return f"{len(tasks)} tasks over 50 ms, the longest {max(tasks, default=0):.0f} ms"
