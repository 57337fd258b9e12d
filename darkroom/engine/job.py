"""What a job function can say: `infer`, `start`, `wait_all`, `each`, and what `job_files.py` and `durable.py` add.

Each asks first what is on record. A step that is there is not done again; one that is not finished raises `Waiting`,
and the runner calls the function again, from its top, when something has come. So between steps it must not have
effects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from darkroom.engine import store as storing
from darkroom.engine import submit as sending
from darkroom.engine import tasks
from darkroom.engine.backoff import USUAL, RetryPolicy, next_try
from darkroom.engine.batch_rows import Rows
from darkroom.engine.failures import from_document, perhaps_paid, rebuilt
from darkroom.engine.job_files import Inference, JobFiles, Turn
from darkroom.engine.request_spec import build_request
from darkroom.engine.resources import Resources
from darkroom.engine.signals import Cancelled, Waiting
from darkroom.errors import DarkroomError, Park, Retry
from darkroom.ledger import GRANT, Asset, Lane, Record, Request, RequestSpec, RequestStatus, asks_the_same, spec_again

Background = Callable[[str, Callable[[], object]], None]


@dataclass(frozen=True, kw_only=True)
class Call:
    """A paid call among several that are each on their own, see `Job.each`."""

    step: str
    endpoint: str
    arguments: Mapping[str, Any]
    retry: RetryPolicy = USUAL


class Shown(Protocol):
    """Where a person looks at the outcome of jobs."""

    def show_text(self, job_id: str, name: str, markdown: str, *, description: str) -> None: ...

    def show_progress(self, job_id: str, percent: float, text: str) -> None: ...

    def watch_rows(self, job_id: str) -> None: ...

    def link(self, asset: Asset) -> str: ...


def _at_once(_: str, carry_out: Callable[[], object]) -> None:
    carry_out()


class Job(JobFiles):
    """One call of a job's function: what is on record, and what the call adds to it.

    `as_tasks`: each step is a Prefect task. `failures`: how often what it has paid for could not be had, in calls
    before. `background`: does what lasts as long as a provider's work, under the call's ref, beside this call and at
    most once at a time. `turn`: waits for a turn at storing a file.
    """

    def __init__(
        self,
        record: Record,
        resources: Resources,
        *,
        as_tasks: bool,
        failures: int = 0,
        background: Background = _at_once,
        turn: Turn = nullcontext,
        shown: Shown | None = None,
    ) -> None:
        row = record.job
        super().__init__(record, resources, as_tasks=as_tasks, failures=failures, turn=turn)
        self.kind = row.kind
        self.created_at = row.created_at
        self._requests = resources.ledger.requests
        self._background = background
        self._shown = shown
        self._calls: dict[str, dict[int, Request]] = {}  # step → attempt → row
        for call in record.requests:
            self._noted(call)

    @property
    def calls(self) -> list[Request]:
        """Return the job's paid calls, as it last saw them."""
        return [row for attempts in self._calls.values() for row in attempts.values()]

    def infer(
        self,
        endpoint: str,
        arguments: Mapping[str, Any],
        *,
        step: str,
        retry: RetryPolicy = USUAL,
        lane: Lane = Lane.INTERACTIVE,
        reuse: bool = False,
    ) -> Inference:
        """Make a paid call and return it once it has finished; raise `Waiting` until then.

        Raise the tree of `darkroom.errors` if it failed for good.
        """
        return self.wait_all(self.start(endpoint, arguments, step=step, retry=retry, lane=lane, reuse=reuse))[0]

    def start(
        self,
        endpoint: str,
        arguments: Mapping[str, Any],
        *,
        step: str,
        retry: RetryPolicy = USUAL,
        lane: Lane = Lane.INTERACTIVE,
        reuse: bool = False,
    ) -> str:
        """Reserve the call without waiting for it, so that several are under way at once. Return its step.

        Files of the media store are given as their assets. `lane`: of the job's first call; later ones go into
        `Lane.CONTINUE`, but for trainings. `reuse`: an answer that the user has had to the same call, with the same
        files by content, serves for it.
        """
        row = self._latest(step)
        if row is None:
            row = self._queue([self._spec(endpoint, arguments, step=step, lane=lane, reuse=reuse)])[0]
        elif self._was_put_back(row):
            row = self._as_asked_today(row, self._spec(endpoint, arguments, step=step, lane=lane, reuse=reuse))
        self._advance_all(row, retry)
        return step

    def each(self, calls: Sequence[Call]) -> Iterator[tuple[Call, Inference | DarkroomError]]:
        """Yield the outcome of each call that has ended, then raise `Waiting` while some have not.

        A failure is a value here and does not affect the others. The calls are reserved all at once.
        """
        self._reserve_missing(calls)
        pending = []
        for call in calls:
            try:
                row = self._on_record(call.step)
                if self._was_put_back(row):
                    spec = self._spec(call.endpoint, call.arguments, step=call.step, lane=row.lane)
                    row = self._as_asked_today(row, spec)
                self._advance_all(row, call.retry)
                row = self._on_record(call.step)
                if row.status is RequestStatus.SUCCEEDED:
                    came: Inference | DarkroomError = self._collect(row)
                else:
                    pending.append(row.ref)
                    continue
            except Cancelled:  # ends the job, and is no outcome of one call
                raise
            except DarkroomError as error:
                came = error
            yield call, came
        if pending:
            raise Waiting(pending)

    def wait_all(self, *steps: str) -> list[Inference]:
        """Return the results of started steps, in their order; raise `Waiting` until all have come."""
        rows = [self._on_record(step) for step in steps]
        pending = [row.ref for row in rows if row.status is not RequestStatus.SUCCEEDED]
        if pending:
            raise Waiting(pending)
        return [self._collect(row) for row in rows]

    @property
    def rows(self) -> Rows:
        """Return the rows of a batch, and show from now on how far they have come."""
        if self._shown is not None:
            self._shown.watch_rows(self.id)
        return Rows(self._row, self._resources)

    def progress(self, percent: float, text: str) -> None:
        """Report how far the job has come, for people to see: in the API and as a bar in Prefect's UI."""
        if self._resources.ledger.jobs.progress(self.id, percent, text) and self._shown is not None:
            self._shown.show_progress(self.id, percent, text)

    def show(self, name: str, markdown: str, *, description: str) -> None:
        """Show a text among the run's artifacts in Prefect's UI, for looking only.

        `name`: lowercase letters and dashes.
        """
        if self._shown is not None:
            self._shown.show_text(self.id, name, markdown, description=description)

    def link(self, asset: Asset) -> str:
        """Return an address to put into such a text (`show`).

        It opens the file for as long as Prefect's UI is looked at.
        """
        return self._shown.link(asset) if self._shown is not None else ""

    def _spec(
        self, endpoint: str, arguments: Mapping[str, Any], *, step: str, lane: Lane, reuse: bool = False
    ) -> RequestSpec:
        self.require_going_on()
        # A training stays one, whatever came before it: hours of somebody's slot are no step of a job under way.
        lane = lane if lane is Lane.TRAINING or not self._calls else Lane.CONTINUE
        return build_request(endpoint, arguments, step=step, lane=lane, reuse=reuse)

    def _reserve_missing(self, calls: Sequence[Call]) -> None:
        missing = [call for call in calls if self._latest(call.step) is None]
        if missing:
            lane = Lane.INTERACTIVE
            self._queue([self._spec(each.endpoint, each.arguments, step=each.step, lane=lane) for each in missing])

    def _queue(self, specs: Sequence[RequestSpec]) -> list[Request]:
        """Reserve the calls and return their rows as they are once slots were granted."""
        reserved = self._requests.reserve_all(self.id, specs)
        if any(row.status is RequestStatus.QUEUED for row in reserved):
            self._resources.dispatcher.grant()
            reserved = [self._requests.get(reserved[0].ref)] if len(reserved) == 1 else self._as_of_now(reserved)
        return [self._noted(row) for row in reserved]

    def _was_put_back(self, row: Request) -> bool:
        """Return whether a replay requeued the row, with the input of the code that failed, and it is not sent yet."""
        since = self._row.replayed_at
        waits = row.status in (RequestStatus.QUEUED, RequestStatus.GRANTED)
        return since is not None and row.created_at >= since and waits

    def _as_asked_today(self, row: Request, spec: RequestSpec) -> Request:
        """Amend the row to the call that is asked for today; leave it as it is where it is under way by now."""
        if asks_the_same(row, spec):
            return row
        changed, implied = self._requests.amend(row.ref, spec)
        self._resources.dispatcher.carry_out(implied)
        # With its grant it may have a slot again.
        return self._noted(self._requests.get(row.ref) if GRANT in implied else changed)

    def _as_of_now(self, rows: Sequence[Request]) -> list[Request]:
        refs = {row.ref for row in rows}
        return [row for row in self._requests.of_job(self.id) if row.ref in refs]

    def _noted(self, row: Request) -> Request:
        self._calls.setdefault(row.step, {})[row.attempt] = row
        return row

    def _advance_all(self, row: Request, retry: RetryPolicy) -> None:
        """Do whatever can be done for the call just now."""
        # So that a call that a gateway has sent is a step in Prefect like any other.
        if self._as_tasks and row.sent_ahead and row.adopted_at is None:
            row = self._noted(self._carry_out(row))
        following: Request | None = row
        while following is not None:  # a new attempt may have its slot at once
            following = self._advance(following, retry)

    def _latest(self, step: str) -> Request | None:
        """Return the last attempt, or one before it whose success came late."""
        # That one is paid, so no other is needed.
        rows = self._calls.get(step, {}).values()
        return max(rows, key=lambda row: (row.status is RequestStatus.SUCCEEDED, row.attempt), default=None)

    def _advance(self, row: Request, retry: RetryPolicy) -> Request | None:
        """Do what the row asks for and return what it became; None when there is nothing left to do now."""
        match row.status:
            case RequestStatus.GRANTED:
                return self._submit(row)
            case RequestStatus.FAILED | RequestStatus.EXPIRED:
                return self._again(row, retry)
            case RequestStatus.CANCELLED:
                raise Cancelled("The job was cancelled.").of(step=row.step, ref=row.ref)
            case _:
                return None

    def _submit(self, row: Request) -> Request | None:
        # It lasts as long as the provider's work, and the thread is another job's meanwhile.
        if self._is_immediate(row):
            self._background(row.ref, partial(self._carry_out, row))
            return None
        now = self._noted(self._carry_out(row))
        return None if now.status is RequestStatus.GRANTED else now

    def _is_immediate(self, row: Request) -> bool:
        try:
            return self._resources.providers.of(row.account_id).immediate
        except DarkroomError:
            return False  # there is no such provider, which is found out, and put on record, by sending it

    def _carry_out(self, row: Request) -> Request:
        with suppress(DarkroomError):  # it is on record: the row says its outcome
            if not self._as_tasks:
                return sending.submit(self._resources, row)
            tasks.submit(row.ref, step=row.step, key=f"{self.id}/{row.step}/{row.attempt}")
        return self._requests.get(row.ref)

    def _again(self, row: Request, retry: RetryPolicy) -> Request:
        """Queue a new attempt and keep the failed one on record; raise if the failure is for good."""
        error, tries = rebuilt(row), self._tries(row.step)
        if row.status is RequestStatus.EXPIRED and not retry.resubmit_expired:
            # Whatever attempts are left: what may be paid is not paid again without a person.
            raise perhaps_paid(row.account_id).of(step=row.step, ref=row.ref)
        if tries >= retry.attempts or not isinstance(error, Retry):
            raise error
        due = next_try(error, tries=tries, now=self._resources.clock(), policy=retry, timing=self._resources.timing)
        return self._queue([spec_again(row, attempt=row.attempt + 1, lane=Lane.CONTINUE, not_before=due)])[0]

    def _tries(self, step: str) -> int:
        """Count the attempts of the step since the job was last replayed."""
        since = self._row.replayed_at
        return sum(since is None or row.created_at >= since for row in self._calls[step].values())

    def _on_record(self, step: str) -> Request:
        row = self._latest(step)
        assert row is not None, f"wait_all({step!r}) comes after start(…, step={step!r})"
        return row

    def _collect(self, row: Request) -> Inference:
        output = row.output if row.output is not None else self._fetch(row)
        files = storing.files_of_call(row, output)
        return Inference(
            ref=row.ref,
            attempt=row.attempt,
            step=row.step,
            output=output,
            files=tuple(files),
            reused_from=row.reused_from,
            collected_at=self._resources.clock(),
        )

    def _fetch(self, row: Request) -> dict[str, Any]:
        """Fetch the result of a success that was announced without its payload."""
        try:
            outcome = self._resources.providers.of(row.account_id).poll(row)
        except (Retry, Park):
            outcome = None
        if outcome is None:
            code = "result_unreachable"
            lost = Park("The provider says the request succeeded, but its result cannot be had.", code=code)
            # It is paid, so it is waited for as a file is whose host is out.
            self._call_again(lost)
            raise lost.of(step=row.step, ref=row.ref)
        if outcome.output is None:
            raise from_document(outcome.error or {}).of(step=row.step, ref=row.ref)
        self._requests.fill_output(row.ref, output=outcome.output, cost_usd=outcome.cost_usd)
        self._noted(self._requests.get(row.ref))
        return outcome.output
