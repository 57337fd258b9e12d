"""What a job function can say: `infer`, `start`, `wait_all`, `store`.

Each asks first what is on record. A step that is there is not done again; one that is not finished raises `Waiting`,
and the runner calls the function again, from its top, when something has come. So between steps it must not have
effects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from random import random
from typing import Any

from blocks import errors
from blocks.catalogue import find_model
from blocks.clock import utc_now
from blocks.errors import DarkroomError, NeedsHuman, Permanent, Retry
from blocks.ledger import Asset, Lane, Record, Request, RequestSpec, RequestStatus
from blocks.media import RemoteFile
from blocks.outcomes import fetch_result
from flows.engine import steps, tasks
from flows.engine.backoff import USUAL, RetryPolicy, next_try
from flows.engine.resources import Resources


class Waiting(BaseException):
    """Nothing to do until one of these requests moves. Not an `Exception`: a job function must not swallow it."""

    def __init__(self, refs: Iterable[str]) -> None:
        super().__init__()
        self.refs = frozenset(refs)


class Cancelled(DarkroomError):
    """The job's request was cancelled, and so is the job."""

    kind = "cancelled"
    code = "cancelled"


class Later(BaseException):
    """The provider's file could not be had, and another try may bring it: call the job again after so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds


@dataclass(frozen=True, kw_only=True)
class Inference:
    """A finished paid call: what the provider answered, and the files it made."""

    ref: str
    attempt: int
    step: str
    output: Mapping[str, Any]
    files: tuple[RemoteFile, ...]
    collected_at: datetime = field(default_factory=utc_now)


class Job:
    """One call of a job's function: what is on record, and what the call adds to it.

    `named`: each step is a Prefect task. `setbacks`: how often its files could not be had, in calls before.
    """

    def __init__(self, record: Record, resources: Resources, *, named: bool, setbacks: int = 0) -> None:
        row = record.job
        self.id = row.id
        self.user_id = row.user_id
        self.created_at = row.created_at
        self.parameters: Mapping[str, Any] = row.parameters
        self._row = row
        self._resources = resources
        self._requests = resources.ledger.requests
        self._named = named
        self._setbacks = setbacks
        self._calls = {(call.step, call.attempt): call for call in record.requests}
        self._files = {(asset.step, asset.n): asset for asset in record.assets}

    @property
    def calls(self) -> list[Request]:
        """Its paid calls, as the job last saw them."""
        return list(self._calls.values())

    @property
    def assets(self) -> list[Asset]:
        return list(self._files.values())

    def infer(self, endpoint: str, arguments: Mapping[str, Any], *, step: str, retry: RetryPolicy = USUAL) -> Inference:
        """The finished call, or `Waiting`. Raises the tree of `blocks.errors` if it failed for good."""
        return self.wait_all(self.start(endpoint, arguments, step=step, retry=retry))[0]

    def start(self, endpoint: str, arguments: Mapping[str, Any], *, step: str, retry: RetryPolicy = USUAL) -> str:
        """Reserves the call without waiting for it, so that several are under way at once. Returns its step."""
        row = self._latest(step) or self._reserve(endpoint, arguments, step=step)
        while (following := self._advance(row, retry)) is not None:
            row = following
        return step

    def wait_all(self, *steps: str) -> list[Inference]:
        """What came of started steps, in their order; `Waiting` until all have come."""
        rows = [self._on_record(step) for step in steps]
        pending = [row.ref for row in rows if row.status is not RequestStatus.SUCCEEDED]
        if pending:
            raise Waiting(pending)
        return [self._collect(row) for row in rows]

    def store(self, inference: Inference) -> list[Asset]:
        """Brings the call's files into the media store, each verified, each once."""
        return [self._stored(inference, file, n=n) for n, file in enumerate(inference.files)]

    def _stored(self, inference: Inference, file: RemoteFile, *, n: int) -> Asset:
        place = (inference.step, n)
        if place not in self._files:
            try:
                store = self._store_named if self._named else self._store
                self._files[place] = store(inference, file, n=n)
            except DarkroomError as error:
                self._call_again(error)
                raise error.of(step=inference.step, ref=inference.ref) from error
        return self._files[place]

    def _call_again(self, error: DarkroomError) -> None:
        """Raises Later where another try may bring the file. Not slept here: the thread is another job's meanwhile."""
        pauses: Sequence[int] = ()
        if isinstance(error, errors.Park):
            pauses = steps.OUT_AGAIN_AFTER_SECONDS
        elif isinstance(error, Retry) and not self._named:  # the task has its own tries of these
            pauses = steps.STORE_AGAIN_AFTER_SECONDS
        if self._setbacks < len(pauses):
            raise Later(pauses[self._setbacks] * (1 + random())) from error

    def _store_named(self, inference: Inference, file: RemoteFile, *, n: int) -> Asset:
        asset_id = tasks.store(
            self.id,
            file.url,
            ref=inference.ref,
            step=inference.step,
            n=n,
            key=f"{self.id}/{inference.step}-{n}/{inference.attempt}",
            collected_at=inference.collected_at,
        )
        stored = self._resources.ledger.jobs.asset(asset_id)
        assert stored is not None
        return stored

    def _store(self, inference: Inference, file: RemoteFile, *, n: int) -> Asset:
        return steps.store(
            self._resources,
            self._row,
            file,
            ref=inference.ref,
            step=inference.step,
            n=n,
            collected_at=inference.collected_at,
        )

    def _reserve(self, endpoint: str, arguments: Mapping[str, Any], *, step: str) -> Request:
        if self._row.cancel_requested_at is not None:
            raise Cancelled("The job was cancelled.")
        model = find_model(endpoint)
        checked = model.validate(arguments)
        first = not self._calls
        return self._queue(
            RequestSpec(
                step=step,
                endpoint=endpoint,
                input=checked,
                estimate_usd=model.estimate(checked),
                lane=Lane.INTERACTIVE if first else Lane.CONTINUE,
            )
        )

    def _queue(self, spec: RequestSpec) -> Request:
        row = self._requests.reserve(self.id, spec)
        self._resources.dispatcher.grant()
        return self._noted(self._requests.get(row.ref))

    def _noted(self, row: Request) -> Request:
        self._calls[row.step, row.attempt] = row
        return row

    def _latest(self, step: str) -> Request | None:
        """The last attempt; or one before it whose success came late: that is paid, and there is no need of another."""
        rows = [row for row in self.calls if row.step == step]
        return max(rows, key=lambda row: (row.status is RequestStatus.SUCCEEDED, row.attempt), default=None)

    def _advance(self, row: Request, retry: RetryPolicy) -> Request | None:
        """Does what the row asks for and returns what it became; None when there is nothing left to do now."""
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
        with suppress(DarkroomError):  # it is on record: the row says what became of it
            if not self._named:
                return self._noted(steps.submit(self._resources, row.ref, endpoint=row.endpoint))
            key = f"{self.id}/{row.step}/{row.attempt}"
            tasks.submit(row.ref, endpoint=row.endpoint, step=row.step, key=key)
        now = self._noted(self._requests.get(row.ref))
        return None if now.status is RequestStatus.GRANTED else now

    def _again(self, row: Request, retry: RetryPolicy) -> Request:
        """A new attempt, both on record; raises if the failure is for good."""
        error, tries = _rebuild(row), self._tries(row.step)
        if row.status is RequestStatus.EXPIRED and not retry.resubmit_expired:
            raise _perhaps_paid().of(step=row.step, ref=row.ref)
        if tries >= retry.attempts or not isinstance(error, Retry):
            raise error
        return self._queue(
            RequestSpec(
                step=row.step,
                endpoint=row.endpoint,
                input=row.input,
                estimate_usd=row.estimate_usd,
                lane=Lane.CONTINUE,
                attempt=row.attempt + 1,
                not_before=next_try(error, tries=tries, now=utc_now(), policy=retry),
            )
        )

    def _tries(self, step: str) -> int:
        """Attempts of the step, since the job was last replayed."""
        since = self._row.replayed_at
        return sum(row.step == step and (since is None or row.created_at >= since) for row in self.calls)

    def _on_record(self, step: str) -> Request:
        row = self._latest(step)
        assert row is not None, f"wait_all({step!r}) comes after start(…, step={step!r})"
        return row

    def _collect(self, row: Request) -> Inference:
        output = row.output if row.output is not None else self._fetch(row)
        files = find_model(row.endpoint).files(output)
        return Inference(ref=row.ref, attempt=row.attempt, step=row.step, output=output, files=tuple(files))

    def _fetch(self, row: Request) -> dict[str, Any]:
        """The result of a success that was announced without its payload."""
        assert row.request_id is not None
        outcome = fetch_result(self._resources.fal, row, row.request_id)
        if outcome is None:
            lost = Retry("The provider says the request succeeded, but its result cannot be fetched.")
            raise lost.of(step=row.step, ref=row.ref)
        if outcome.output is None:
            raise _from_document(outcome.error or {}).of(step=row.step, ref=row.ref)
        self._requests.fill_output(row.ref, output=outcome.output, cost_usd=outcome.cost_usd)
        self._noted(self._requests.get(row.ref))
        return outcome.output


def _rebuild(row: Request) -> DarkroomError:
    if row.status is RequestStatus.EXPIRED:
        return Retry("The provider gave no sign of the request within its time.", code="expired")
    return _from_document(row.error or {}).of(step=row.step, ref=row.ref)


def _perhaps_paid() -> NeedsHuman:
    return NeedsHuman(
        "The provider gave no sign of the request within its time, and may have been paid for it. Look for it at "
        "fal.ai/dashboard, then replay the job.",
        code="expired",
    )


_CLASSES: dict[str, type[DarkroomError]] = {
    each.kind: each for each in (errors.Retry, errors.Park, Permanent, NeedsHuman)
}


def _from_document(document: Mapping[str, Any]) -> DarkroomError:
    kind = _CLASSES.get(str(document.get("class")), Permanent)
    return kind(str(document.get("message", "")), code=document.get("code"))
