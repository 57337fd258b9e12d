"""Durable waiting, as a job function says it: `step`, `sleep`, `wait_for_event`, `wait_any`, `send_event`, `invoke`.

Each is a row of the ledger under the step's name: opened once, settled once, whatever process looks. While it is open
the call ends with `Waiting`; whoever settles the row, or its time, has the function called again from its top. Names
that are not given go by kind and order ("sleep-1"), so a function must reach its steps in the same order each time.

A side effect (`step`) cannot be undone by a crash: one whose process died between its effect and the record of it is
done again, with the same key. So it happens at least once; once, where the other side knows the key; and never again
when its result is on record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from darkroom.engine import conditions
from darkroom.engine.resources import Resources
from darkroom.engine.side_effects import SideEffects, StepRetry, try_again
from darkroom.engine.signals import Cancelled, RetryLater, Waiting
from darkroom.errors import BadInput, DarkroomError, Park, Permanent, Retry, WrongState
from darkroom.events import EventIngest, Sender, TriggerFile
from darkroom.ledger import ON_DEMAND, WAIT, Asset, JobStatus, Wait, WaitStatus
from darkroom.ledger import Job as JobRow

LONGEST = timedelta(days=100 * 366)
MOST_NAME_CHARACTERS = 200


@dataclass(frozen=True, kw_only=True)
class Happened:
    """An event that came. `data`: as it was sent, checked by its type."""

    id: str
    name: str
    data: Mapping[str, Any]
    occurred_at: datetime


@dataclass(frozen=True, kw_only=True)
class Invoked:
    """A child job that has completed."""

    job_id: str
    result: Mapping[str, Any] | None
    assets: tuple[Asset, ...]


@dataclass(frozen=True)
class Sleep:
    """As one of several (`wait_any`): it is over so long after the job came to it, or at that time."""

    until: timedelta | datetime


@dataclass(frozen=True)
class ForEvent:
    """As one of several: an event, see `Durable.wait_for_event`."""

    name: str
    match: str | Mapping[str, Any] | None = None
    timeout: timedelta | None = None


class Durable:
    """What each call of a job's function can wait for beside paid calls, and its unpaid side effects."""

    def __init__(self, row: JobRow, resources: Resources, *, as_tasks: bool, failures: int) -> None:
        self.id = row.id
        self._row = row
        self._resources = resources
        self._as_tasks = as_tasks
        self._failures = failures
        self._numbers: Counter[str] = Counter()  # of steps without a name, by kind
        self._names: set[str] = set()

    def step(self, name: str, fn: Callable[..., Any], *, retry: StepRetry | None = None) -> Any:
        """Carry out a side effect once and return what `fn` gave: any JSON.

        `fn` takes nothing, or one argument: a key that is the same at every attempt. Give that key to the service that
        is told to do something (Stripe's `Idempotency-Key`): `fn` is called again where the process died before its
        result was on record, and where it raised `Retry` or `Park`, or could not connect. Anything else that it raises
        fails the job, naming the step. `retry`: how often and when instead, and what is worth it.
        """
        self._take_name(name)
        return self._step(name, fn, retry)

    def sleep(self, duration: timedelta, *, step: str | None = None) -> None:
        """Wait this long from the moment the job first comes here, for days or years; no process waits meanwhile."""
        self._sleep(duration, step)

    def sleep_until(self, when: datetime, *, step: str | None = None) -> None:
        """Wait until that time. `when`: with a time zone. The first one that was given counts."""
        self._sleep(when, step)

    def wait_for_event(
        self,
        name: str,
        *,
        match: str | Mapping[str, Any] | None = None,
        timeout: timedelta | None = None,
        step: str | None = None,
    ) -> Happened | None:
        """Return the first event of that name about the job's user (or about no user) since the job began, or None.

        One that came before the wait counts; one that started the job, or that an earlier wait of it took, does not.
        `match`: what holds for its data, as CEL over `event` ("event.data.score > 3"), or field → value, all equal.
        None comes back at the `timeout`, and where a person says that it is over. Raise BadInput for a `match` that
        cannot be read, and a name that is not registered.
        """
        wait = self._open_event(self._named_or_numbered("wait_for_event", step), ForEvent(name, match, timeout))
        return self._happened(self._settled(wait))

    def wait_any(
        self, waits: Mapping[str, Sleep | ForEvent], *, step: str | None = None
    ) -> tuple[str, Happened | None]:
        """Return the key of the first wait to settle, with the event that came; the same one in every later call.

        Where several settle at the same time it is the one that was on record first, and the others are superseded.
        """
        if not waits:
            raise BadInput("Name at least one thing to wait for.", field="waits")
        name = self._named_or_numbered("wait_any", step)
        opened = {key: self._open(f"{name}:{key}", each) for key, each in waits.items()}
        chosen = self._chosen(list(opened.values()))
        if chosen is None:
            raise _waiting(list(opened.values()))
        # By what the ledger has chosen, not by what is settled now: every later call is given the same.
        self._require_not_ended(chosen)
        return next(key for key, wait in opened.items() if wait.id == chosen.id), self._happened(chosen)

    def send_event(self, name: str, data: Mapping[str, Any], *, step: str | None = None) -> str:
        """Send an event about the job's user, once. Return its id. Raise BadInput for what its type forbids."""
        named = self._named_or_numbered("send_event", step)
        return str(self._step(named, lambda key: self._send(name, data, key=key)))

    def invoke(self, deployment: str, *, step: str | None = None, **parameters: Any) -> Invoked:
        """Run a deployment as a child job of the same user, and wait for its end without a process.

        `deployment`: "generate-image/on-demand", or the flow's name alone for that; `parameters`: as in its form. Its
        failure is raised as `Permanent`, naming the child and what failed of it. Cancelling this job cancels the child.
        """
        name = self._named_or_numbered("invoke", step)
        wait = self._settled(self._open_child(name, deployment, parameters))
        return self._invoked(wait)

    def invoke_all(
        self,
        deployment: str,
        parameters: Sequence[Mapping[str, Any]],
        *,
        step: str,
        at_once: int,
        heard: Callable[[int], None] = lambda ended: None,
    ) -> list[Invoked | Permanent]:
        """Run a child job for each, `at_once` at a time. Return the outcomes, in order, once all have ended.

        A failure is a value here and does not affect the others. Their steps are numbered ("item-0001"). `heard` is
        called with how many have ended.
        """
        # One look for all of them.
        known = {wait.name: wait for wait in self._resources.ledger.waits.of_job(self.id)}
        ended: list[Wait] = []
        waiting: list[Wait] = []
        for n, each in enumerate(parameters, 1):
            name = self._named_or_numbered("invoke", f"{step}-{n:04}")
            if name not in known and len(waiting) >= at_once:
                break  # the rest is begun in a later call, when one of these has ended
            wait = self._looked_at(known.get(name) or self._open_child(name, deployment, each))
            (waiting if wait.status == WaitStatus.OPEN else ended).append(wait)
        heard(len(ended))
        if len(ended) < len(parameters):
            raise _waiting(waiting)
        return [self._came(wait) for wait in ended]

    def require_going_on(self) -> None:
        """End the call of a job that was cancelled by raising `Cancelled`."""
        if self._row.cancel_requested_at is not None:
            raise Cancelled("The job was cancelled.")

    # -- names ---------------------------------------------------------------------------------------------------

    def _named_or_numbered(self, kind: str, given: str | None) -> str:
        if given is None:
            self._numbers[kind] += 1
            given = f"{kind}-{self._numbers[kind]}"
        self._take_name(given)
        return given

    def _take_name(self, name: str) -> None:
        if not 0 < len(name) <= MOST_NAME_CHARACTERS or not name.isprintable():
            raise BadInput(f"A step's name has 1 to {MOST_NAME_CHARACTERS} printable characters.", field="step")
        if name in self._names:
            raise Permanent(
                f"Two steps of the job are named '{name}': what is on record of one would be taken for the other's. "
                "Give each its own `step`, in a loop with a number or an id in it.",
                code="step_named_twice",
            ).of(step=name)
        self._names.add(name)

    # -- waits ---------------------------------------------------------------------------------------------------

    def _sleep(self, until: timedelta | datetime, step: str | None) -> None:
        self._settled(self._open(self._named_or_numbered("sleep", step), Sleep(until)))

    def _pause(self, name: str, pause: timedelta) -> None:
        self._settled(self._open(name, Sleep(pause)))

    def _open(self, name: str, each: Sleep | ForEvent) -> Wait:
        if isinstance(each, ForEvent):
            return self._open_event(name, each)
        until = _when(each.until, now=self._resources.clock())
        return self._begun(name, lambda: self._resources.ledger.waits.sleep(self._row, name, until=until))

    def _open_event(self, name: str, each: ForEvent) -> Wait:
        conditions.require_event(each.name)
        match = conditions.as_text(each.match)
        until = None if each.timeout is None else _when(each.timeout, now=self._resources.clock())
        test = conditions.holds(match)
        return self._begun(
            name,
            lambda: self._resources.ledger.waits.for_event(
                self._row, name, event=each.name, match=match, test=test, until=until
            ),
        )

    def _open_child(self, name: str, deployment: str, parameters: Mapping[str, Any]) -> Wait:
        (kind, named), waits = _parts(deployment), self._resources.ledger.waits

        def begin() -> Wait:
            if (known := waits.find(self.id, name)) is not None:
                return known  # without Prefect, which may be out: the child was begun, so it was checked
            self._require_deployment(f"{kind}/{named}", parameters)
            wait, implied = waits.for_child(self._row, name, kind=kind, deployment=named, parameters=parameters)
            self._resources.dispatcher.carry_out(implied)
            return wait

        return self._begun(name, begin)

    def _begun(self, name: str, begin: Callable[[], Wait]) -> Wait:
        try:
            return begin()
        except WrongState as error:  # the job was cancelled while its function was called
            raise Cancelled(error.message).of(step=name) from error
        except DarkroomError as error:
            raise error.of(step=name) from error

    def _require_deployment(self, deployment: str, given: Mapping[str, Any]) -> None:
        """Raise BadInput for parameters that the deployment does not take: no run of the child would ever begin.

        A Prefect that does not answer is waited for.
        """
        try:
            wanted = self._resources.orchestrator.parameters_of(deployment)
        except (Retry, Park) as error:
            try_again(error, self._failures, self._resources)
            raise
        # A child is its parent's user's: nobody is named.
        if unknown := sorted(set(given) - wanted.names | {"user"} & set(given)):
            names = ", ".join(sorted(wanted.names - {"user"}))
            raise BadInput(f"{deployment} does not take '{unknown[0]}' from here. It takes: {names}.", field=unknown[0])
        if missing := sorted(wanted.required - set(given)):
            raise BadInput(f"{deployment} needs '{missing[0]}'.", field=missing[0])

    def _settled(self, opened: Wait) -> Wait:
        """Return the wait as it is on record; raise `Waiting` while it is open."""
        wait = self._looked_at(opened)
        if wait.status == WaitStatus.OPEN:
            raise _waiting([wait])
        return wait

    def _looked_at(self, opened: Wait) -> Wait:
        wait = self._resources.ledger.waits.take(opened.id) if opened.status == WaitStatus.OPEN else opened
        self._require_not_ended(wait)
        return wait

    def _chosen(self, opened: Sequence[Wait]) -> Wait | None:
        return self._resources.ledger.waits.choose([wait.id for wait in opened])

    def _require_not_ended(self, wait: Wait) -> None:
        if wait.status == WaitStatus.CANCELLED:
            raise Cancelled("The job was cancelled.").of(step=wait.name)

    def _happened(self, wait: Wait) -> Happened | None:
        if wait.event_id is None:
            return None
        event = self._resources.ledger.waits.event(wait.event_id)
        return Happened(id=event.id, name=event.name, data=event.data or {}, occurred_at=event.occurred_at)

    def _invoked(self, wait: Wait) -> Invoked:
        ledger = self._resources.ledger
        child = ledger.jobs.get(wait.child_job_id or "")
        assert child is not None
        if not child.status.terminal:
            # A person has put it back to work since: its new end is what counts.
            raise RetryLater(self._resources.timing.child_again.total_seconds())
        if child.status is JobStatus.COMPLETED:
            return Invoked(job_id=child.id, result=child.result, assets=tuple(ledger.assets.of_job(child.id)))
        error = child.error or {}
        words = f": {error.get('message')}" if error else ""
        raise Permanent(f"{child.kind} {child.id} {child.status}{words}", code=f"child_{child.status}").of(
            step=wait.name
        )

    def _came(self, wait: Wait) -> Invoked | Permanent:
        try:
            return self._invoked(wait)
        except Permanent as error:
            return error

    # -- side effects --------------------------------------------------------------------------------------------

    def _step(self, name: str, fn: Callable[..., Any], retry: StepRetry | None = None) -> Any:
        effects = SideEffects(self.id, self._resources, as_tasks=self._as_tasks, sleep=self._pause)
        known = effects.known(name)
        if known is None or known.done_at is None:
            self.require_going_on()  # what is on record is told to a job that was cancelled, too
            effects.carry_out(name, fn, retry)
            known = effects.known(name)
        assert known is not None
        return (known.result or {}).get("value")

    def _send(self, name: str, data: Mapping[str, Any], *, key: str) -> str:
        sender = Sender.of_job(self._row)
        ingest = EventIngest(self._resources.ledger, _triggers())
        # The step's key is its id: sent again it is the same event.
        (taken,), implied = ingest.take(sender, [{"name": name, "data": dict(data), "id": key}])
        if taken.problem is not None:
            raise BadInput(taken.problem.message, field=taken.problem.field)
        self._resources.dispatcher.carry_out(implied)
        return taken.id


@cache
def _triggers() -> TriggerFile:
    """Return the file of what events start, which is read once and again when it has changed."""
    return TriggerFile()


def _waiting(waits: Sequence[Wait]) -> Waiting:
    """Return a `Waiting` for these waits, which is expected to end soon only if one of them is for a child."""
    # An event comes when people do something, a child's end when a machine is done: that is worth a process.
    due = min((wait.until for wait in waits if wait.until is not None), default=None)
    return Waiting(
        {WAIT + wait.id for wait in waits}, due=due, expected=any(wait.child_job_id is not None for wait in waits)
    )


def _when(given: timedelta | datetime, *, now: datetime) -> datetime:
    if isinstance(given, datetime):
        if given.tzinfo is None:
            raise BadInput("A time to wait until has a time zone, e.g. datetime.now(UTC).", field="until")
        if given - now > LONGEST:
            raise BadInput("It is more than a hundred years away.", field="until")
        return given
    if given > LONGEST:
        raise BadInput("It is longer than a hundred years.", field="duration")
    return now + max(given, timedelta(0))


def _parts(deployment: str) -> tuple[str, str]:
    kind, _, name = deployment.partition("/")
    if not kind or "/" in name:
        raise BadInput(f"'{deployment}' is no deployment: name it '<flow>/<deployment>'.", field="deployment")
    return kind, name or ON_DEMAND
