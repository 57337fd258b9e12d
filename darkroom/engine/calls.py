"""Calls of job functions: which are under way, and what each job waits for once its call has ended.

The loop of the runner starts calls and takes in their ends; only it touches what is kept here. The calls themselves
happen in a few threads and return what is to be kept. A job's failure is its own.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from prefect.exceptions import TerminationSignal
from prefect.input import RunInput
from prefect.logging import get_run_logger

from darkroom.engine.job import Job
from darkroom.engine.paid_calls import PAID_CALLS
from darkroom.engine.resources import Resources
from darkroom.engine.signals import Cancelled, RetryLater, Waiting
from darkroom.engine.token_bucket import TokenBucket
from darkroom.engine.turns import Turns
from darkroom.engine.ui.report import Reports
from darkroom.errors import DarkroomError, Park, way_to
from darkroom.ledger import OUTAGES, JobStatus, Listener, Record, Work

JobFunction = Callable[[Job], object]

# Two cores collect about as many a second. Unpaced, 200 at once took 1.2 s (p95) from webhook to next line.
SUBMITS_AT_ONCE = 24
SUBMITS_PER_SECOND = 85
MOST_BLOCKING = 16  # calls of providers whose answer is the outcome, for all jobs of the run
SIDE_BY_SIDE = 8  # job functions called at once; each is short, the provider's time is not spent here
RESULTS_AT_ONCE = 32  # … of those for which a result came: mostly they get to a file at once, and wait for their turn
# How many store a file at once; while a result waits for its job's next line, fewer do. Calls that have come so far
# count for none of the above: the others go on beside them.
FILES_AT_ONCE, FEW_FILES = 8, 2
MOST_AT_FILES = 96


@dataclass(frozen=True, kw_only=True)
class CallEnd:
    """How a call ended: with refs that its job waits for, or seconds after which it is called again, or for good."""

    waits: frozenset[str] | None = None
    again_after: float | None = None
    form: type[RunInput] | None = None  # what a person is asked, and nothing else is waited for
    due: datetime | None = None  # when what it waits for moves by itself
    expected: bool = True  # it may come any moment

    @property
    def for_good(self) -> bool:
        """Return whether the job's end is on record."""
        return self.waits is None and self.again_after is None


@dataclass(frozen=True, kw_only=True)
class BlockingCall:
    """A paid call under way in its own thread, as long as the provider's work takes."""

    job_id: str
    done: Future[object]


class Calls:
    def __init__(self, function: JobFunction, resources: Resources, reports: Reports) -> None:
        self._function = function
        self._resources = resources
        self._ledger = resources.ledger
        self._reports = reports
        self._under_way: dict[str, Future[CallEnd]] = {}
        self._waits: dict[str, frozenset[str]] = {}
        self._forms: dict[str, type[RunInput]] = {}
        self._times: dict[str, datetime] = {}  # at which what jobs wait for moves by itself
        self._unexpected: set[str] = set()  # jobs for which nothing but their time may come soon
        self._failures: Counter[str] = Counter()
        self._pace = TokenBucket(at_once=SUBMITS_AT_ONCE, per_second=SUBMITS_PER_SECOND)
        self._held_back = False  # a job could be called, but for the pace
        self._due: dict[str, float] = {}  # monotonic; of jobs that are called later, as of a file to be tried again
        self._put_off: set[str] = set()  # of these, jobs whose calls a gateway has sent
        self._blocking: dict[str, BlockingCall] = {}  # by ref: paid calls whose answer is their outcome
        self._files = Turns(FILES_AT_ONCE, few=FEW_FILES, on_come=lambda: None)

    @property
    def waits(self) -> Mapping[str, frozenset[str]]:
        """Return what each job waits for; a job that is not in it can be called."""
        return self._waits

    @property
    def form(self) -> type[RunInput] | None:
        """Return the form that a person is to fill in for a job that waits for the answer, or None."""
        return next((form for job_id, form in self._forms.items() if job_id in self._waits), None)

    @property
    def next_time(self) -> datetime | None:
        """Return the next time at which a wait is over, or None."""
        return min(self._times.values(), default=None)

    def sleep(self, job_ids: Collection[str]) -> bool:
        """Return whether nothing is expected for any of these jobs before the next time (`next_time`)."""
        return self._unexpected.issuperset(job_ids)

    @property
    def busy(self) -> bool:
        return bool(self._under_way or self._due or self._held_back or self._blocking)

    @property
    def next_due(self) -> float:
        """Return the seconds until a job is to be called though nothing comes for it.

        Infinite while there is no capacity for it.
        """
        if self._elsewhere >= SIDE_BY_SIDE:
            return float("inf")
        again = min(self._due.values(), default=float("inf")) - time.monotonic()
        return max(0.0, min(again, self._pace.seconds if self._held_back else again))

    @property
    def _elsewhere(self) -> int:
        """Return how many calls are under way that have not come to a file."""
        return len(self._under_way) - min(self._files.count, MOST_AT_FILES)

    @contextmanager
    def threads(self, listener: Listener) -> Iterator[None]:
        """Run the threads in which calls can be started, and notify `listener` at the end of each call.

        Leaving the context waits for those under way. Where the process is told to end, they begin no paid calls.
        """
        with (
            ThreadPoolExecutor(MOST_BLOCKING, thread_name_prefix="blocking") as self._blocking_pool,
            ThreadPoolExecutor(RESULTS_AT_ONCE + MOST_AT_FILES, thread_name_prefix="job") as self._pool,
            closing(Turns(FILES_AT_ONCE, few=FEW_FILES, on_come=listener.notify)) as self._files,
        ):
            self._listener = listener
            try:
                yield
            except TerminationSignal:
                # SIGTERM, whatever worker sends it: those that wait in the pools would begin now, and be killed.
                PAID_CALLS.begin_no_more()
                raise

    def take_in(self) -> tuple[set[str], set[str]]:
        """Keep what ended calls say, and return the jobs that go on, and those that have ended.

        Raise what one of them raised: the ledger's failure is not the job's.
        """
        moved: set[str] = set()
        ended: set[str] = set()
        for job_id, call in list(self._under_way.items()):
            if call.done():
                del self._under_way[job_id]
                end = call.result()
                self._keep(job_id, end)
                (ended if end.for_good else moved).add(job_id)
        for ref, blocking in list(self._blocking.items()):
            # Not while the job is called: what that call will say it waits for does not know of this yet.
            if blocking.done.done() and blocking.job_id not in self._under_way:
                del self._blocking[ref]
                self._waits.pop(blocking.job_id, None)  # its answer is there, whatever it is
                self._require_recorded(blocking)
                moved.add(blocking.job_id)
        return moved, ended

    def _require_recorded(self, blocking: BlockingCall) -> None:
        """Raise the ledger's failure. Any other is our own mistake, and of one job: reconcile settles its call."""
        try:
            blocking.done.result()
        except OUTAGES:
            raise
        except Exception as error:
            get_run_logger().error("A call of job %s is left:\n%s", blocking.job_id, way_to(error))

    def start(self, work: Work, *, as_tasks: bool) -> None:
        """Call as many jobs as there is capacity for, results first. `as_tasks`: with their steps as Prefect tasks."""
        self._due = {job_id: due for job_id, due in self._due.items() if job_id in work.ready}
        chosen = self._choose(work, at_once=as_tasks)
        for record in self._ledger.jobs.take_up(chosen) if chosen else ():
            self._due.pop(record.job.id, None)
            self._put_off.discard(record.job.id)
            # Each in a copy of the run's context, so that tasks belong to it.
            call = self._pool.submit(copy_context().run, self._call, record, as_tasks)
            self._under_way[record.job.id] = call
            # Else the loop would see it at its next poll alone.
            call.add_done_callback(lambda _: self._listener.notify())

    def _choose(self, work: Work, *, at_once: bool) -> list[str]:
        """Choose the jobs to call: those for which something came at once, those that may submit at the run's pace."""
        now = time.monotonic()
        self._put_off_all(
            frozenset() if at_once else work.sent, until=now + self._ledger.timing.sent_shown.total_seconds()
        )
        due = [job_id for job_id in work.ready if job_id not in self._under_way and self._due.get(job_id, now) <= now]
        self._files.give_way(not work.came.isdisjoint(due))
        elsewhere = self._elsewhere
        self._held_back = False
        chosen: list[str] = []
        for job_id in due:
            if elsewhere + len(chosen) >= (RESULTS_AT_ONCE if job_id in work.came else SIDE_BY_SIDE):
                break
            is_paced = job_id not in work.came and job_id not in work.sent
            if is_paced and (self._held_back or not self._pace.take()):
                self._held_back = True
                continue
            chosen.append(job_id)
        return chosen

    def _put_off_all(self, sent: Collection[str], *, until: float) -> None:
        """Have jobs whose calls a gateway has sent called later, and those of which something has come at once."""
        for job_id in self._put_off.difference(sent):
            self._put_off.remove(job_id)
            self._due.pop(job_id, None)
        for job_id in sent:
            if job_id not in self._due and job_id not in self._under_way:
                self._due[job_id] = until
                self._put_off.add(job_id)

    def forget(self) -> None:
        """Have every job called afresh: what was under way is on record, or it did not happen."""
        self._under_way.clear()
        self._waits.clear()
        self._forms.clear()
        self._times.clear()
        self._unexpected.clear()
        self._due.clear()
        self._put_off.clear()
        self._held_back = False

    def _keep(self, job_id: str, end: CallEnd) -> None:
        if end.waits is None:
            self._waits.pop(job_id, None)
        else:
            self._waits[job_id] = end.waits
        if end.form is None:
            self._forms.pop(job_id, None)
        else:
            self._forms[job_id] = end.form
        self._times.pop(job_id, None)
        if end.due is not None:
            self._times[job_id] = end.due
        self._unexpected.discard(job_id)
        if end.waits is not None and not end.expected:
            self._unexpected.add(job_id)
        if end.again_after is None:
            self._failures.pop(job_id, None)
        else:
            self._failures[job_id] += 1
            self._due[job_id] = time.monotonic() + end.again_after

    def _call(self, record: Record, as_tasks: bool) -> CallEnd:
        row = record.job
        job = Job(
            record,
            self._resources,
            as_tasks=as_tasks,
            failures=self._failures[row.id],
            background=partial(self._start_in_background, row.id),
            turn=self._files.turn,
            shown=self._reports,
        )
        result: object = None
        try:
            if row.cancel_requested_at is not None:
                self._cancel_at_provider(job)
            result = self._function(job)
        except Waiting as waiting:
            if as_tasks:
                self._reports.show(job)
            not_yet_cancelled = frozenset({row.id} if row.cancel_requested_at is None else ())
            refs = waiting.refs - set(self._blocking) | not_yet_cancelled
            return CallEnd(waits=refs, form=waiting.form, due=waiting.due, expected=waiting.expected)
        except RetryLater as later:
            if isinstance(later.__cause__, Park):
                self._ledger.assets.held(row.id, reason=later.__cause__.message)
            return CallEnd(again_after=later.seconds)
        except Cancelled:
            self._finish(job, JobStatus.CANCELLED, None, as_tasks=as_tasks)
        except DarkroomError as error:
            self._finish(job, JobStatus.FAILED, error, as_tasks=as_tasks)
        except OUTAGES:  # not the job's failure: the runner waits for the ledger, and calls it again
            raise
        except Exception as error:
            # By its class and place alone: what it says may repeat the order.
            get_run_logger().error("Job %s failed in our own code:\n%s", row.id, way_to(error))
            ours = DarkroomError(type(error).__name__, code="internal_error")
            self._finish(job, JobStatus.FAILED, ours, as_tasks=as_tasks)
        else:
            self._finish(job, JobStatus.COMPLETED, None, as_tasks=as_tasks, result=result)
        return CallEnd()

    def _start_in_background(self, job_id: str, ref: str, carry_out: Callable[[], object]) -> None:
        if ref not in self._blocking:
            done = self._blocking_pool.submit(copy_context().run, carry_out)
            self._blocking[ref] = BlockingCall(job_id=job_id, done=done)
            done.add_done_callback(lambda _: self._listener.notify())

    def _cancel_at_provider(self, job: Job) -> None:
        """Ask the provider to cancel the job's open calls."""
        # The slot stays held until the provider is done with it: a running request runs on and is billed.
        for row in job.calls:
            if row.status.terminal or row.request_id is None:
                continue
            try:
                self._resources.providers.of(row.account_id).cancel(row)
            except DarkroomError as error:  # reconcile asks again
                get_run_logger().warning("%s could not be cancelled at the provider: %s", row.ref, error)

    def _finish(
        self, job: Job, status: JobStatus, error: DarkroomError | None, *, as_tasks: bool, result: object = None
    ) -> None:
        document = None if error is None else error.document()
        told = result if isinstance(result, Mapping) else None
        self._resources.dispatcher.carry_out(self._ledger.jobs.finish(job.id, status, error=document, result=told))
        # After the user has been told: what follows is for whoever looks at Prefect.
        if as_tasks:
            get_run_logger().info("Job %s %s%s", job.id, status, f": {error}" if error else "")
            self._reports.show(job)
            self._reports.show_costs(job)
        else:
            self._reports.add(job, status, error)
