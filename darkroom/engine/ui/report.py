"""What a person sees in Prefect of the jobs: a lone one's pictures, and one line each for those a run carries.

A task run and an artifact for every job would cost more than the jobs, so the lines are shown by the handful: one task
run, one table. They are sent beside the work and are for looking only: what a crash keeps from being shown is in the
ledger.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from uuid import UUID

from prefect.logging import get_run_logger

from darkroom.engine.job import Job
from darkroom.engine.resources import Resources
from darkroom.engine.ui import wait_table
from darkroom.errors import DarkroomError
from darkroom.ledger import Asset, Counts, JobStatus, Request
from darkroom.media.links import ARTIFACT_LIFETIME, asset_url

HANDFUL = 50  # a table costs Prefect as much as ten jobs cost the ledger
PROGRESS, WAITS = "progress", "waits"  # keys of artifacts
FEW = 4  # files of a job that its line shows
# Each costs Prefect a task run or an artifact, so they do not come more often where times are scaled.
OLDEST_SECONDS = 3.0  # a job that has ended is shown then, though its handful is not full
EVERY_SECONDS = 5.0  # a batch's bar moves on


def progress_of(passes: Sequence[Counts]) -> tuple[float, str] | None:
    """Return how far the last pass of a batch has come, in percent and in words; None where it has no rows."""
    if not passes or passes[-1].total == 0:
        return None
    last = passes[-1]
    failed = last.statuses.get(JobStatus.FAILED, 0)
    words = [f"{last.stage.value}s: {last.ended} of {last.total}"]
    words += [f"{failed} failed"] if failed else []
    words.append(f"${sum((each.cost_usd for each in passes), Decimal(0)):.2f}")
    return 100 * last.ended / last.total, ", ".join(words)


@dataclass(frozen=True, kw_only=True)
class Line:
    """A job that has ended, as the table shows it."""

    ended: JobStatus
    cells: dict[str, str]


class Reports:
    """Thread-safe. `sending()` is entered where lines may come; leaving it has sent all of them."""

    def __init__(self, resources: Resources, flow_run_id: UUID) -> None:
        self._resources = resources
        self._flow_run_id = flow_run_id
        self._lock = threading.Lock()
        self._lines: list[Line] = []
        self._oldest = 0.0
        self._watched_at = 0.0
        self._texts: dict[tuple[str, str], str] = {}  # by name and job
        self._suffixes: dict[str, str] = {}  # of the artifacts' keys, by job
        self._watched: set[str] = set()  # batches, of which their rows tell how far they have come

    @contextmanager
    def sending(self) -> Iterator[None]:
        # One thread: of two an older text could overtake a newer one.
        with ThreadPoolExecutor(1, thread_name_prefix="report") as self._sender:
            try:
                yield
            finally:
                self._flush()
                for job_id in self._watched:  # else the bar stays where it was some seconds before the end
                    self._sender.submit(copy_context().run, partial(self._tell_of_rows, job_id, last=True))

    def show(self, job: Job) -> None:
        """Show the pictures that the run's only job has stored since it was last called."""
        fresh = {asset.id for asset in job.fresh}
        for n, asset in pictures(job.assets):
            if asset.id not in fresh or asset.hidden:
                continue
            with self._for_looking_only():
                self._resources.orchestrator.show_picture(
                    self._flow_run_id,
                    key=f"picture-{n}",
                    url=_link(asset, self._resources),
                    description=f"{asset.step}, {asset.width} × {asset.height}, {asset.bytes:,} bytes: `{asset.key}`",
                )

    def show_costs(self, job: Job) -> None:
        """Show what the run's only job has paid, call by call, where there were several."""
        if len(job.calls) > 1:
            with self._for_looking_only():
                table = [_cost(row) for row in job.calls]
                self._resources.orchestrator.show_costs(self._flow_run_id, key="costs", table=table)

    def show_text(self, job_id: str, name: str, markdown: str, *, description: str) -> None:
        """Show a text once for as long as it stays the same: job functions are called again and again."""
        if self._texts.get((name, job_id)) != markdown:
            self._texts[name, job_id] = markdown

            def show() -> None:
                key = self._key(name, job_id)
                to = self._resources.orchestrator
                to.show_text(self._flow_run_id, key=key, markdown=markdown, description=description)

            self._send_soon(show)

    def show_progress(self, job_id: str, percent: float, text: str) -> None:
        self._send_soon(partial(self._move_bar, job_id, percent, text))

    def _key(self, name: str, job_id: str) -> str:
        if job_id not in self._suffixes:
            self._suffixes[job_id] = suffix(job_id, first=self._resources.ledger.jobs.first_of(self._flow_run_id))
        return name + self._suffixes[job_id]

    def show_waits(self, run_id: str, *, leaving: bool = False) -> None:
        """Keep one table true of what the run's jobs wait for besides calls, and of what came of it.

        `leaving`: the run suspends for it now, and its log says so too.
        """
        waits = self._resources.ledger.waits.of_run(run_id, limit=wait_table.MOST_ROWS)
        if not waits:
            return
        said = wait_table.described(waits, count=self._resources.ledger.waits.outlook(run_id).open)
        if leaving:
            get_run_logger().info(said)
        with self._for_looking_only():
            table = wait_table.rows(waits)
            self._resources.orchestrator.keep_table(self._flow_run_id, key=WAITS, table=table, description=said)

    def link(self, asset: Asset) -> str:
        """Return the file's address for what is shown in Prefect's UI."""
        return _link(asset, self._resources)

    def add(self, job: Job, ended: JobStatus, error: DarkroomError | None) -> None:
        cells: dict[str, str] = {}
        with self._for_looking_only():
            cells = _cells(job, ended, error, self._resources)
        with self._lock:
            if not self._lines:
                self._oldest = time.monotonic()
            self._lines.append(Line(ended=ended, cells=cells or {"Job": job.id, "Ended": ended.value}))
            full = len(self._lines) >= HANDFUL
        if full:
            self._flush()

    def send_what_is_due(self) -> None:
        if self._lines and time.monotonic() - self._oldest > OLDEST_SECONDS:
            self._flush()
        if self._watched and time.monotonic() - self._watched_at > EVERY_SECONDS:
            self._watched_at = time.monotonic()
            for job_id in self._watched:
                self._sender.submit(copy_context().run, self._tell_of_rows, job_id)

    def watch_rows(self, job_id: str) -> None:
        """Have the bar of that batch move on every few seconds."""
        self._watched.add(job_id)

    def _tell_of_rows(self, job_id: str, *, last: bool = False) -> None:
        """Move the batch's bar on. `last`: also where the ledger takes no news, as the batch has ended."""
        come = progress_of(self._resources.ledger.batches.counts(job_id))
        if come is not None and (self._resources.ledger.jobs.progress(job_id, *come) or last):
            with self._for_looking_only():
                self._move_bar(job_id, *come)

    def _move_bar(self, job_id: str, percent: float, text: str) -> None:
        key = self._key(PROGRESS, job_id)
        self._resources.orchestrator.show_progress(self._flow_run_id, key=key, percent=percent, text=text)

    def _send_soon(self, show: Callable[[], None]) -> None:
        """Show it in the background of the job's call, which a slow answer of Prefect's would hold up."""

        def send() -> None:
            with self._for_looking_only():
                show()

        self._sender.submit(copy_context().run, send)

    def _flush(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, []
        if lines:
            self._sender.submit(copy_context().run, self._send, lines)

    def _send(self, lines: list[Line]) -> None:
        with self._for_looking_only():
            self._resources.orchestrator.show_table(
                self._flow_run_id,
                key="jobs",
                name=f"{len(lines)} job{'s' if len(lines) > 1 else ''}",
                message=_counted(lines),
                table=[line.cells for line in lines],
            )

    @contextmanager
    def _for_looking_only(self) -> Iterator[None]:
        try:
            yield
        except DarkroomError as error:
            get_run_logger().warning("Prefect was not shown what came of it, the ledger knows: %s", error)


def _counted(lines: list[Line]) -> str:
    counts = Counter(line.ended for line in lines)
    return ", ".join(f"{counts[status]} {status.value}" for status in JobStatus if counts[status])


def _cells(job: Job, ended: JobStatus, error: DarkroomError | None, resources: Resources) -> dict[str, str]:
    """Return the cells of a job's line."""
    # Never the prompt, and of an error only its code: words of the provider may repeat it.
    at_provider = sum(
        (row.finished_at - row.submitted_at).total_seconds()
        for row in job.calls
        if row.finished_at is not None and row.submitted_at is not None
    )
    more = f" and {len(job.assets) - FEW} more" if len(job.assets) > FEW else ""
    return {
        "Job": job.id,
        "Ended": ended.value if error is None else f"{ended.value}: {error.code}",
        "Attempts": str(max((row.attempt for row in job.calls), default=0)),
        "At the provider": f"{at_provider:.1f} s",
        "In all": f"{(resources.clock() - job.created_at).total_seconds():.1f} s",
        "Size": ", ".join(_size(asset) for asset in job.assets[:FEW]) + more,
        "Cost": f"${sum((row.cost_usd or Decimal(0) for row in job.calls), Decimal(0)):.3f}",
        "Picture": " ".join(_opened(asset, resources) for asset in job.assets[:FEW]) + more,
    }


def suffix(job_id: str, *, first: str | None) -> str:
    """Return what tells a job's artifacts from those of the other jobs of its run: nothing for the first one."""
    return "" if job_id == first else f"-{job_id[-6:]}"


def pictures(assets: Sequence[Asset]) -> Iterator[tuple[int, Asset]]:
    """Yield the pictures among a job's files, numbered from 1, in the order in which they came: their ids have it."""
    yield from enumerate(sorted((each for each in assets if each.content_type.startswith("image/")), key=_id), 1)


def _id(asset: Asset) -> str:
    return asset.id


def _cost(row: Request) -> dict[str, str]:
    seconds = (row.finished_at - row.submitted_at).total_seconds() if row.finished_at and row.submitted_at else None
    return {
        "Step": row.step if row.attempt == 1 else f"{row.step}, attempt {row.attempt}",
        "Model": row.endpoint,
        "Came to": row.status.value if row.reused_from is None else "had already",
        "Took": "" if seconds is None else f"{seconds:.1f} s",
        "Cost": "" if row.cost_usd is None else f"${row.cost_usd:.3f}",
    }


def _size(asset: Asset) -> str:
    size = f"{asset.bytes // 1024:,} KB"
    return f"{asset.width}×{asset.height}, {size}" if asset.width else size


def _opened(asset: Asset, resources: Resources) -> str:
    return "hidden" if asset.hidden else f"[open]({_link(asset, resources)})"


def _link(asset: Asset, resources: Resources) -> str:
    return asset_url(asset.id, resources.settings, lifetime=ARTIFACT_LIFETIME)
