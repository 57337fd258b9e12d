"""Large batches: how close to what the slots allow, what a row costs, and that ten thousand need no more memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from statistics import median

import psutil
import pytest
from acceptance.running import Stack, running_stack
from support import wait_until

pytestmark = pytest.mark.timeout(1800)  # a thousand rows of two seconds each take their time

SLOTS = 10
ALLOWED = 1.05  # wall ÷ ideal
MOST_MEGABYTES = 400  # of the flow's process, all its pages
USER = "campaigner"


@dataclass
class Used:
    cpu_seconds: float = 0.0
    megabytes: list[float] = field(default_factory=list)  # of the largest flow process, each second


def test_a_thousand_rows_take_as_long_as_the_slots_allow(tmp_path: Path) -> None:
    """The first pass, from the order to the last draft; never more at the provider than there are slots."""
    rows, seconds = 1000, 2.0
    with running_stack(tmp_path / "home", "--latency", str(seconds)) as stack:
        with measuring(stack) as used:
            began = time.monotonic()
            job_id, _ = order(stack, rows)
            until_drafted(stack, job_id, rows)
            wall = time.monotonic() - began
        most_open = stack.simulator.get("/_sim/stats").json()["max_open_by_account"]
        end(stack, job_id)
    ideal = rows * seconds / SLOTS
    print(f"\n{rows} rows: {wall:.1f} s, {wall / ideal:.3f} of ideal; at most {most_open} open at the provider")
    print(f"{1000 * used.cpu_seconds / rows:.0f} CPU-ms a row, all processes but the provider")
    print(f"the flow's process: {max(used.megabytes):.0f} MB at most")
    assert wall / ideal <= ALLOWED
    assert max(most_open.values()) <= SLOTS
    assert max(used.megabytes) <= MOST_MEGABYTES


def test_ten_thousand_rows_are_taken_at_once_and_need_no_more_memory(tmp_path: Path) -> None:
    """Accepted within 5 s, a page of the job within 100 ms, and the flow's process as large with 3,000 as with 500."""
    with running_stack(tmp_path / "home", "--latency", "0.1") as stack:
        with measuring(stack) as used:
            job_id, accepted = order(stack, 10_000)
            until_drafted(stack, job_id, 500)
            early = max(used.megabytes)
            until_drafted(stack, job_id, 3000)
            late = max(used.megabytes)
        assert stack.gateway.post(f"/v1/batches/{job_id}/pause", headers=stack.bearer(USER)).is_success
        paths = (f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/children?limit=50")
        pages = {path: median(took(stack, path) for _ in range(15)) for path in paths}
        end(stack, job_id)
    print(f"\n10,000 rows: accepted in {accepted:.1f} s; pages {[f'{1000 * page:.0f} ms' for page in pages.values()]}")
    print(f"the flow's process: {early:.0f} MB until the 500th row, {late:.0f} MB until the 3,000th")
    assert accepted <= 5
    assert max(pages.values()) <= 0.1
    assert late <= early * 1.1


def test_refusals_slow_a_batch_down_and_it_recovers(tmp_path: Path) -> None:
    """The provider says 429 for a while: fewer are under way, then as many as before, and no row has failed."""
    rows, seconds = 500, 1.0
    with running_stack(tmp_path / "home", "--latency", str(seconds)) as stack:
        job_id, _ = order(stack, rows)
        rates: list[float] = []
        with sampling(lambda: stack.job(job_id, user=USER)["batch"]["draft"]["completed"], rates, seconds=5.0):
            until_drafted(stack, job_id, rows // 4)
            stack.simulator.post("/_sim/rules", json={"match": "a mug", "submit": "429", "times": 6}).raise_for_status()
            until_drafted(stack, job_id, rows)
        draft = stack.job(job_id, user=USER)["batch"]["draft"]
        end(stack, job_id)
    print(f"\nrows a second, every 5 s: {[round(rate, 1) for rate in rates]}")
    assert draft["completed"] == rows
    before, after = max(rates[:3]), max(rates[-4:])
    assert min(rates[2:-1]) < 0.7 * before
    assert after > 0.85 * before


def order(stack: Stack, rows: int) -> tuple[str, float]:
    """The batch, and how long its acceptance took in seconds."""
    stack.ledger.users.set_plan("studio", in_flight=SLOTS, weight=Decimal(1))
    manifest = [{"prompt": f"a mug, number {n}", "seed": n} for n in range(rows)]
    bearer = stack.bearer(USER)
    began = time.monotonic()
    answer = stack.gateway.post("/v1/batches", json={"rows": manifest}, headers=bearer).raise_for_status()
    return answer.json()["job_id"], time.monotonic() - began


def until_drafted(stack: Stack, job_id: str, rows: int) -> None:
    wait_until(lambda: _drafts(stack, job_id) >= rows, timeout=900, every=0.5, what=f"{rows} drafts")


def end(stack: Stack, job_id: str) -> None:
    stack.gateway.post(f"/v1/jobs/{job_id}/cancel", headers=stack.bearer(USER)).raise_for_status()
    stack.ended(job_id, user=USER)


def took(stack: Stack, path: str) -> float:
    began = time.monotonic()
    stack.gateway.get(path, headers=stack.bearer(USER)).raise_for_status()
    return time.monotonic() - began


def _drafts(stack: Stack, job_id: str) -> int:
    draft = stack.job(job_id, user=USER)["batch"]["draft"]
    return int(draft["completed"])


@contextmanager
def sampling(count: Callable[[], int], rates: list[float], *, seconds: float) -> Iterator[None]:
    """How many more a second, over each so many seconds."""
    done = threading.Event()

    def look() -> None:
        at, had = time.monotonic(), count()
        while not done.wait(seconds):
            now, has = time.monotonic(), count()
            rates.append((has - had) / (now - at))
            at, had = now, has

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:  # it asks the stack, which may be about to end
        done.set()
        thread.join()


@contextmanager
def measuring(stack: Stack) -> Iterator[Used]:
    """CPU of everything below the supervisor but the simulator; memory of the largest flow process."""
    used, done = Used(), threading.Event()
    before = _cpu(stack)

    def look() -> None:
        while not done.wait(1.0):
            sizes = [0.0]
            for process in _flow_processes(stack):
                with _still_there():
                    sizes.append(process.memory_info().rss / 1e6)
            used.megabytes.append(max(sizes))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield used
        used.cpu_seconds = _cpu(stack) - before
    finally:
        done.set()
        thread.join()


def _cpu(stack: Stack) -> float:
    simulator = int((stack.home / "run" / "simulator.pid").read_text())
    total = 0.0
    for process in psutil.Process(stack.process.pid).children(recursive=True):
        with _still_there():
            if process.pid != simulator:
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
    return total


def _flow_processes(stack: Stack) -> list[psutil.Process]:
    worker = psutil.Process(int((stack.home / "run" / "worker.pid").read_text()))
    found = []
    for process in worker.children(recursive=True):
        with _still_there():
            if process.name().startswith("flow-"):
                found.append(process)
    return found


@contextmanager
def _still_there() -> Iterator[None]:
    try:
        yield
    except psutil.NoSuchProcess:
        return
