"""What a ledger of a million ended jobs answers slower than one of ten thousand: ratios, measured side by side.

`DARKROOM_BENCH_JOBS=100000` is quicker than the million. The two ledgers take turns, so what else the machine does is
in both; the pages that Postgres touches are told beside, as they are the same on a busy machine. Each ledger is warm:
that what is read is little is what `tests/integration/test_ledger_growth.py` promises.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from statistics import median

import ledger_growth
import pytest
from ledger_databases import Databases

from benchmarks.pages import counting_pages
from darkroom.ledger import Ledger

pytestmark = pytest.mark.timeout(3600)

FEW = 10_000
MANY = int(os.environ.get("DARKROOM_BENCH_JOBS", "1000000"))
ROUNDS = 31
PREPARED = 5
ALLOWED = 1.2
OVERLOOKED = 0.001  # seconds more, of what takes a few milliseconds


def test_a_million_ended_jobs_slow_nothing_down(databases: Databases) -> None:
    """Order, page, grant, turn of reconcile, lists, dead letters, events, day's report: medians ≤ 1.2 times."""
    with databases.fresh() as few_url, databases.fresh() as many_url:
        ledger_growth.fill(few_url, jobs=FEW)
        ledger_growth.fill(many_url, jobs=MANY)
        pages = {url: pages_of(url) for url in (few_url, many_url)}
        for name in pages[few_url]:
            print(
                f"{pages[many_url][name]:6} pages of {MANY:,}, {pages[few_url][name]:6} of {FEW:,}: {name}", flush=True
            )
        with closing(Ledger(few_url)) as few, closing(Ledger(many_url)) as many:
            slower = [name for name, each in ledger_growth.OPERATIONS.items() if not as_fast(name, each, few, many)]
            for name, each in ledger_growth.MORE_FOUND.items():
                as_fast(name, each, few, many)  # told, and not asked for: there is more to read
    assert not slower


def pages_of(url: str) -> dict[str, int]:
    """Return how many pages each operation touches, once all of its statements are prepared."""
    pages = {}
    with counting_pages() as taken, closing(Ledger(url)) as ledger:
        for name, operation in {**ledger_growth.OPERATIONS, **ledger_growth.MORE_FOUND}.items():
            for _ in range(PREPARED):
                operation(ledger)
            taken()
            operation(ledger)
            pages[name] = taken()
    return pages


def as_fast(name: str, operation: Callable[[Ledger], None], few: Ledger, many: Ledger) -> bool:
    rounds = [(seconds(operation, few), seconds(operation, many)) for _ in range(ROUNDS)][ROUNDS // 4 :]
    quick, slow = median(each for each, _ in rounds), median(each for _, each in rounds)
    print(f"{slow / quick:6.2f}  {1000 * slow:7.2f} ms of {MANY:,}, {1000 * quick:7.2f} of {FEW:,}: {name}", flush=True)
    return slow / quick <= ALLOWED or slow - quick <= OVERLOOKED


def seconds(operation: Callable[[Ledger], None], ledger: Ledger) -> float:
    began = time.perf_counter()
    operation(ledger)
    return time.perf_counter() - began
