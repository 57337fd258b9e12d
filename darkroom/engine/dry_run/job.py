"""A job whose function is called to see what it would do: what is on record is given to it, and nothing is done.

What was never done has no answer, so the call ends there as if it waited for it (`DryRunStop`), or with the paid call
that it would make next on the list of those (`asks`). A file of our own making is made and verified, and lies in
memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from darkroom.engine import store as storing
from darkroom.engine.backoff import USUAL, RetryPolicy
from darkroom.engine.batch_rows import Rows
from darkroom.engine.durable import ForEvent, Sleep
from darkroom.engine.failures import rebuilt
from darkroom.engine.job import Call, Job
from darkroom.engine.job_files import Inference
from darkroom.engine.resources import Resources
from darkroom.engine.side_effects import StepRetry
from darkroom.engine.signals import DryRunStop, Waiting
from darkroom.errors import DarkroomError, Permanent
from darkroom.ledger import (
    Asset,
    Lane,
    Record,
    Request,
    RequestSpec,
    RequestStatus,
    Wait,
    WaitStatus,
    asks_the_same,
    new_id,
    same,
)
from darkroom.media.formats import Kind, Media, RemoteFile, verify
from darkroom.providers.outcomes import is_outcome

NO_MORE_TRIES = 1 << 30  # what cannot be read now is not waited for


class How(StrEnum):
    """A paid call that would be made, beside what is on record of its step."""

    AGAIN = "again"  # the same call
    OTHERWISE = "otherwise"  # another one than what failed
    FIRST = "first"  # the job has never reached it


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A paid call that a replay would make.

    `changed`: what differs from the call that failed: fields of its input, `endpoint`, `account`. `refused`: it was
    refused for good, with this code, and the same is asked again.
    """

    step: str
    endpoint: str
    estimate_usd: Decimal
    how: How
    changed: tuple[str, ...] = ()
    refused: str | None = None


def asked(spec: RequestSpec, before: Request | None) -> Ask:
    """Return the paid call that would be made. `before`: what is on record of the step, and did not succeed."""
    how, changed, refused = How.FIRST, tuple[str, ...](), None
    if before is not None:
        changed = changes(before, spec)
        how = How.OTHERWISE if changed else How.AGAIN
        refused = _refusal(before) if how is How.AGAIN else None
    return Ask(
        step=spec.step,
        endpoint=spec.endpoint,
        estimate_usd=spec.estimate_usd,
        how=how,
        changed=changed,
        refused=refused,
    )


def changes(row: Request, spec: RequestSpec) -> tuple[str, ...]:
    """Return the names, never the contents, of what differs between the row and today's call."""
    if asks_the_same(row, spec):
        return ()
    before, now = dict(row.input or {}), dict(spec.input)
    fields = [name for name in sorted({*before, *now}) if not same(before.get(name), now.get(name))]
    places = [("endpoint", row.endpoint, spec.endpoint), ("account", row.account_id, spec.account_id)]
    return tuple([name for name, was, is_now in places if was != is_now] + fields)


def _refusal(row: Request) -> str | None:
    """Return the code of a refusal of just this call, which would come again, or None."""
    if row.status is not RequestStatus.FAILED:
        return None
    error = rebuilt(row)
    # What the account was refused for may not come again.
    return error.code if isinstance(error, Permanent) and is_outcome(error) else None


class DryRunJob(Job):
    """One call. `refuses`: what was refused for good, and would be asked just so again, comes back refused.

    Without, it is under way like everything else that is asked: a function goes on to what it asks beside it.
    """

    def __init__(self, record: Record, resources: Resources, *, refuses: bool) -> None:
        super().__init__(record, resources, as_tasks=False, failures=NO_MORE_TRIES)
        self.asks: dict[str, Ask] = {}  # by step
        self._refuses = refuses
        self._contents: dict[str, bytes] = {}  # by key, of files that are in memory alone

    # -- paid calls ----------------------------------------------------------------------------------------------

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
        if not self._is_there(step):
            self._would_ask(self._spec(endpoint, arguments, step=step, lane=lane, reuse=reuse))
            if (refusal := self._refusal_of(step)) is not None:
                raise refusal
        return step

    def wait_all(self, *steps: str) -> list[Inference]:
        if pending := [step for step in steps if not self._is_there(step)]:
            raise Waiting(pending)
        return [self._collect(self._on_record(step)) for step in steps]

    def each(self, calls: Sequence[Call]) -> Iterator[tuple[Call, Inference | DarkroomError]]:
        for call in calls:
            if not self._is_there(call.step):
                self._would_ask(self._spec(call.endpoint, call.arguments, step=call.step, lane=Lane.INTERACTIVE))
        pending = []
        for call in calls:
            came: Inference | DarkroomError | None = self._refusal_of(call.step)
            if came is None and not self._is_there(call.step):
                pending.append(call.step)
                continue
            yield call, came or self._collected(call.step)
        if pending:
            raise Waiting(pending)

    def _collected(self, step: str) -> Inference | DarkroomError:
        try:
            return self._collect(self._on_record(step))
        except DarkroomError as error:
            return error

    def _is_there(self, step: str) -> bool:
        row = self._latest(step)
        return row is not None and row.status is RequestStatus.SUCCEEDED

    def _would_ask(self, spec: RequestSpec) -> None:
        before = self._latest(spec.step)
        ask = asked(spec, before)
        if ask.how is not How.OTHERWISE and spec.reuse_hash is not None:
            served = self._requests.reusable(self.user_id, spec.reuse_hash)
            if served is not None:
                self._noted(_served(spec, served, before))
                return
        self.asks[spec.step] = ask

    def _refusal_of(self, step: str) -> DarkroomError | None:
        ask = self.asks.get(step)
        if not self._refuses or ask is None or ask.refused is None:
            return None
        return rebuilt(self._on_record(step))

    # -- files ---------------------------------------------------------------------------------------------------

    def _store(self, inference: Inference, file: RemoteFile, *, n: int) -> Asset:
        if not storing.is_inline(file):
            raise DryRunStop(f"it would fetch the file of '{inference.step}'")
        return self._in_memory(storing.inline(file), step=inference.step, n=n, ref=inference.ref)

    def _make(self, step: str, build: Callable[[], bytes], *, kind: Kind, n: int) -> Asset:
        return self._in_memory(verify(build(), kind), step=step, n=n)

    def _reused(self, inference: Inference, reused_from: str) -> list[Asset]:
        """Return the files of the call whose answer is reused, as they are."""
        present = [asset for (step, _), asset in sorted(self._files.items()) if step == inference.step]
        if present:
            return present
        files = self._resources.ledger.assets.of_job(self._requests.get(reused_from).job_id)
        return sorted((asset for asset in files if asset.ref == reused_from), key=lambda asset: asset.n)

    def asset(self, asset_id: str) -> Asset:
        made = (asset for asset in self.fresh if asset.id == asset_id)
        return next(made, None) or super().asset(asset_id)

    def read_key(self, key: str) -> bytes:
        return self._contents[key] if key in self._contents else super().read_key(key)

    def _in_memory(self, media: Media, *, step: str, n: int, ref: str | None = None) -> Asset:
        place = f"{self.id}/{step}-{n}.{media.extension}"
        self._contents[place] = media.content
        return Asset(
            id=new_id("ast_"),
            job_id=self.id,
            user_id=self.user_id,
            ref=ref,
            step=step,
            n=n,
            key=place,
            sha256=media.sha256,
            content_type=media.content_type,
            bytes=media.size,
            width=media.width,
            height=media.height,
            seconds=media.seconds,
            created_at=self._resources.clock(),
        )

    # -- what is shown, and to whom ------------------------------------------------------------------------------

    def progress(self, percent: float, text: str) -> None:
        pass

    @property
    def rows(self) -> Rows:
        raise DryRunStop("it would look after the rows of a batch, which are jobs of their own")

    # -- waits and side effects ----------------------------------------------------------------------------------

    def _step(self, name: str, fn: Callable[..., Any], retry: StepRetry | None = None) -> Any:
        known = self._resources.ledger.steps.get(self.id, name)
        if known is None or known.done_at is None:
            raise DryRunStop(f"it would do the step '{name}'")
        return (known.result or {}).get("value")

    def _open(self, name: str, each: Sleep | ForEvent) -> Wait:
        return self._known(name, f"it would wait in the step '{name}'")

    def _open_event(self, name: str, each: ForEvent) -> Wait:
        return self._known(name, f"it would wait for the event {each.name}")

    def _open_child(self, name: str, deployment: str, parameters: Mapping[str, Any]) -> Wait:
        return self._known(name, f"it would start {deployment}")

    def _known(self, name: str, otherwise: str) -> Wait:
        wait = self._resources.ledger.waits.find(self.id, name)
        if wait is None:
            raise DryRunStop(otherwise)
        return wait

    def _looked_at(self, opened: Wait) -> Wait:
        """Return a settled wait. Raise `DryRunStop` where the job would go on waiting, or start a child again."""
        # After a replay a wait that ended with the job goes on with it, and is over if its time has passed.
        if opened.status in (WaitStatus.OPEN, WaitStatus.CANCELLED):
            if opened.until is not None and opened.until <= self._resources.clock():
                return Wait.model_construct(**dict(opened) | {"status": WaitStatus.TIMED_OUT})
            raise DryRunStop(f"it would go on to wait in the step '{opened.name}'")
        # A replay starts one anew that failed or was cancelled.
        child = self._resources.ledger.jobs.get(opened.child_job_id) if opened.child_job_id else None
        if child is not None and child.status in ("failed", "cancelled"):
            raise DryRunStop(f"it would start {child.kind} again")
        return opened

    def _chosen(self, opened: Sequence[Wait]) -> Wait | None:
        settled = [wait for wait in opened if wait.status in (WaitStatus.RECEIVED, WaitStatus.TIMED_OUT)]
        return min(settled, key=lambda wait: wait.settled_at or self._resources.clock(), default=None)


def _served(spec: RequestSpec, answer: Request, before: Request | None) -> Request:
    """Return the row that would record a call whose answer the user has had: nothing is paid for it."""
    return Request.model_construct(
        **dict(answer)
        | {
            "step": spec.step,
            "attempt": 1 if before is None else before.attempt + 1,
            "reused_from": answer.ref,
            "status": RequestStatus.SUCCEEDED,
        }
    )
