"""The unpaid side effects of a job: carried out, put on record, and tried again as their policy says.

How often one was begun and when its next attempt is due stand in its row, so both hold through suspensions and
processes that die. Without a policy it is five tries, and where nobody is there at all, tries for an hour.
"""

from __future__ import annotations

import inspect
import json
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePath
from typing import Any

import httpx

from darkroom.engine import tasks
from darkroom.engine.backoff import RetryPolicy, next_try
from darkroom.engine.resources import Resources
from darkroom.engine.signals import RetryLater
from darkroom.errors import BadInput, DarkroomError, Park, Permanent, Retry
from darkroom.ledger import OUTAGES
from darkroom.ledger import Step as StepRow

MOST_RESULT_BYTES = 256 << 10
TRIES = 5  # of a step that says it may pass
# What the ways of reaching others raise where it may pass; the rest of what a step raises is its own mistake.
TRANSIENT = (ConnectionError, TimeoutError, httpx.TransportError)
MOST_ATTEMPTS = 100
# In a step's error, beside what went wrong:
SPENT = "spent"  # how many attempts there had been when it was given up
AGAIN_AT = "again_at"  # when the next one is due


@dataclass(frozen=True, kw_only=True)
class StepRetry:
    """How a side effect is tried again: `job.step("charge", charge, retry=StepRetry(attempts=8))`.

    `attempts`: all of them, and those whose process died. The pauses double from `first` to `longest`, each a random
    share of that, and never end before the other side's `Retry-After`. `on`: what is worth another attempt; classes
    of your own exceptions, too. Anything else fails the job at once.
    """

    attempts: int = TRIES
    first: timedelta = timedelta(seconds=2)
    longest: timedelta = timedelta(minutes=5)
    on: tuple[type[Exception], ...] = (Retry, Park)

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= MOST_ATTEMPTS:
            raise BadInput(f"A step has 1 to {MOST_ATTEMPTS} attempts.", field="attempts")
        if not timedelta(0) <= self.first <= self.longest:
            raise BadInput("The first pause is not negative, and not longer than the longest.", field="first")

    def takes(self, error: DarkroomError) -> bool:
        """Return whether it is worth another attempt, as what it is or as what the step raised."""
        return isinstance(error, self.on) or isinstance(error.__cause__, self.on)

    @property
    def pauses(self) -> RetryPolicy:
        return RetryPolicy(first=self.first, longest=self.longest)


class SideEffects:
    """Those of one job. `sleep` opens a wait of that name and raises `Waiting` while it lasts."""

    def __init__(
        self,
        job_id: str,
        resources: Resources,
        *,
        as_tasks: bool,
        sleep: Callable[[str, timedelta], None],
    ) -> None:
        self._job_id = job_id
        self._resources = resources
        self._as_tasks = as_tasks
        self._sleep = sleep

    def known(self, name: str) -> StepRow | None:
        return self._resources.ledger.steps.get(self._job_id, name)

    def carry_out(self, name: str, fn: Callable[..., Any], retry: StepRetry | None) -> None:
        """Carry it out and put its result on record; raise `RetryLater`, `Waiting` or the error where that fails."""
        before = self.known(name)
        if before is not None:
            self._await_turn(_turn(name, before), before)
        try:
            if self._as_tasks:
                tasks.step(lambda: self._attempt(name, fn), step=name)
            else:
                self._attempt(name, fn)
        except DarkroomError as error:
            spent = 0 if before is None else (before.error or {}).get(SPENT, 0)
            self._failed(name, error, retry, spent=spent)
            raise

    def _await_turn(self, turn: str, row: StepRow) -> None:
        """Raise `Waiting` or `RetryLater` while the pause after the last failure lasts, whatever process began it."""
        if self._resources.ledger.waits.find(self._job_id, turn) is not None:
            self._sleep(turn, timedelta(0))  # which a person may have ended
        elif (left := _again_at(row) - self._resources.clock()) > timedelta(0):
            if left > self._resources.timing.patience:
                self._sleep(turn, left)
            raise RetryLater(left.total_seconds())

    def _attempt(self, name: str, fn: Callable[..., Any]) -> None:
        steps = self._resources.ledger.steps
        # On record before it is done: a process that dies between leaves a step that may have happened.
        if steps.begin(self._job_id, name).done_at is None:
            steps.done(self._job_id, name, _checked(_translated(fn, key=f"{self._job_id}/{name}")))

    def _failed(self, name: str, error: DarkroomError, retry: StepRetry | None, *, spent: int) -> None:
        """Put the failure on record, and raise `RetryLater` or `Waiting` where there is another attempt."""
        document, steps, row = error.of(step=name).document(), self._resources.ledger.steps, self.known(name)
        assert row is not None
        # A replay has all of its attempts, whatever was spent before.
        pause = self._pause_after(error, row.attempts - spent, retry)
        if pause is None:
            steps.failed(self._job_id, name, {**document, SPENT: row.attempts})
            return
        again_at = self._resources.clock() + pause
        steps.failed(self._job_id, name, {**document, SPENT: spent, AGAIN_AT: again_at.isoformat()})
        # Longer than the run would hold its process for: a wait of its own, "charge: try 3".
        if retry is not None and pause > self._resources.timing.patience:
            self._sleep(_turn(name, row), pause)
        raise RetryLater(pause.total_seconds()) from error

    def _pause_after(self, error: DarkroomError, tried: int, retry: StepRetry | None) -> timedelta | None:
        """Return how long to wait before the next attempt; None where there is none."""
        if retry is None:
            return _usual_pause(error, tried - 1, self._resources)
        if not retry.takes(error) or tried >= retry.attempts:
            return None
        timing, now = self._resources.timing, self._resources.clock()
        return next_try(error, tries=tried - 1, now=now, policy=retry.pauses, timing=timing) - now


def try_again(error: DarkroomError, failures: int, resources: Resources) -> None:
    """Raise `RetryLater` where another try may do it. Do not sleep: the thread is another job's meanwhile."""
    if (pause := _usual_pause(error, failures, resources)) is not None:
        raise RetryLater(pause.total_seconds()) from error


def _usual_pause(error: DarkroomError, failures: int, resources: Resources) -> timedelta | None:
    """Return how long to wait after so many failures before this one; None where another try is not worth it."""
    timing, now = resources.timing, resources.clock()
    if isinstance(error, Park) and failures < len(timing.file_out_again):
        return timing.file_out_again[failures]
    if isinstance(error, Retry) and failures < TRIES - 1:
        return next_try(error, tries=failures, now=now, timing=timing) - now
    return None


def _again_at(row: StepRow) -> datetime:
    """Return when the next attempt is due; long ago where nothing is said of it."""
    said = (row.error or {}).get(AGAIN_AT)
    return datetime.min.replace(tzinfo=UTC) if said is None else datetime.fromisoformat(said)


def _turn(name: str, row: StepRow) -> str:
    """Name the wait before the attempt that comes next."""
    return f"{name}: try {row.attempts + 1}"


def _translated(fn: Callable[..., Any], *, key: str) -> Any:
    """Call `fn` and translate what it raises."""
    try:
        return fn(key) if _takes_key(fn) else fn()
    except DarkroomError:
        raise
    # Also of a database: it may be the step's own, of which the run cannot tell when it is back.
    except (*TRANSIENT, *OUTAGES) as error:
        raise Retry(f"The other side could not be reached ({type(error).__name__}).", code="unreachable") from error
    except Exception as error:  # told by its class and place alone: what it says may repeat an event's data
        raise Permanent(f"{type(error).__name__}{place_of(error)}", code="step_failed") from error


def place_of(error: Exception) -> str:
    """Return where in the step's own file the error was raised."""
    # Without the first, which is our call of it. Of the rest the last in its own file: deeper ones are libraries'.
    frames = traceback.extract_tb(error.__traceback__)[1:]
    own = [frame for frame in frames if frame.filename == frames[0].filename]
    return f" in {PurePath(own[-1].filename).name}, line {own[-1].lineno}" if own else ""


def _takes_key(fn: Callable[..., Any]) -> bool:
    """Return whether `fn` takes the key: a parameter that has a value already (`lambda n=n: …`) is not given one."""
    wanted = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(fn).parameters.values()
    return any(each.kind in wanted and each.default is inspect.Parameter.empty for each in parameters)


def _checked(result: Any) -> Any:
    try:
        written = json.dumps(result, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Permanent(
            "It was carried out, but what it returned is no JSON, and cannot be kept. Return text, numbers, lists and "
            "mappings of them.",
            code="step_result",
        ) from error
    if len(written) > MOST_RESULT_BYTES:
        raise Permanent(
            f"It was carried out, but what it returned is {len(written):,} bytes of JSON; {MOST_RESULT_BYTES:,} are "
            "kept. Return an id of it instead.",
            code="step_result",
        )
    return json.loads(written)
