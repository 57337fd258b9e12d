"""The one thread of a gateway that hands out slots, and wakes the runs whose time has come.

Endpoints only raise a flag, so a burst of orders is one grant and no order waits for it. The thread also comes when a
queued row, a wait or a pending run is due, and every few seconds for what other processes put on record. A job's first
call is sent as it gets its slot (`submitter.py`).

While slots come free, the runs of those who are next in line are made a little ahead, as many as will be granted within
the second that a run takes to start.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime

from darkroom.deployments.gateway.loops.effects import EffectExecutor
from darkroom.deployments.gateway.loops.loop import Loop
from darkroom.ledger import Granted, Ledger
from darkroom.orchestrator.dispatch import Dispatcher

# How often somebody is looked for whose run is worth making ahead: it reads the whole line, a user at a time.
AHEAD_EVERY_SECONDS = 0.25
AHEAD_SECONDS = 1.0  # that a process takes to start; or the patience, if that is shorter
FREED_WITHIN_SECONDS = 5.0  # where none came free in that time, the next is further away than a run's patience
MOST_FREED = 100  # that are remembered: 20 runs are made ahead at most


class Admitter(Loop):
    collects_seconds = 0.02  # a burst of orders and webhooks is one grant

    def __init__(
        self,
        ledger: Ledger,
        dispatcher: Dispatcher,
        executor: EffectExecutor,
        *,
        on_grant: Callable[[Sequence[Granted]], None] | None = None,
    ) -> None:
        super().__init__("admitter", failing="No slots were granted", after_failure=ledger.timing.grant_failed)
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._executor = executor
        self._on_grant = on_grant
        self._now = ledger.clock
        self._longest_wait = ledger.timing.grant_wait.total_seconds()
        self._all_pending = ledger.timing.all_pending.total_seconds()
        # Made earlier a run would suspend again before its slot comes, which costs more than it saves.
        self._ahead_seconds = min(AHEAD_SECONDS, ledger.timing.patience.total_seconds())
        self._freed: deque[float] = deque(maxlen=MOST_FREED)
        self._ahead_at = 0.0  # the last time somebody was looked for
        self._released_at = 0.0  # … and all runs that are held
        self._pending_at = 0.0  # when those that are due are looked for

    def poll_pending_runs(self) -> None:
        """Wake it: a run that is held may be due sooner than was known."""
        self._pending_at = 0.0  # first: who is woken looks at it
        self._flag.set()

    def slot_freed(self) -> None:
        """Wake it, and measure by this at which pace slots come free."""
        self._freed.append(time.monotonic())
        self._flag.set()

    def _turn(self) -> float:
        """Grant, and wake whose time has come. Return for how many seconds there will be nothing to do."""
        # As of the time before the grant: a row that falls due in between is waited for, never overlooked. In a burst
        # most slots that come free are nobody's turn: the accounts are not even locked then.
        outlook = self._ledger.grants.outlook()
        if outlook.queued:
            # What follows at Prefect is an effect: a run that is being made there does not hold up the next slot.
            self._executor.run(self._dispatcher.hand_out(on_grant=self._on_grant))
        if outlook.waits_over:
            self._executor.run(self._dispatcher.wake_due())
        wait = min(self._start_ahead(), self._release_pending())
        return min(wait, seconds_until(outlook.due, now=self._now(), most=self._longest_wait))

    def _release_pending(self) -> float:
        """Release runs whose time has come, and now and then all. Return for how many seconds there will be none."""
        now, before = time.monotonic(), self._now()
        if self._pending_at > now:
            return self._pending_at - now
        # Before the work: who wakes it meanwhile sets 0, and the `min` below keeps that.
        self._pending_at = now + self._longest_wait
        all = now - self._released_at >= self._all_pending  # another gateway may have gone before it acted
        if all:
            self._released_at = now
        self._executor.run(self._ledger.pending_runs.release(all=all))
        # After the time before the work: what fell due meanwhile is asked for once more.
        due = self._ledger.pending_runs.next_due(after=before)
        wait = seconds_until(due, now=self._now(), most=self._longest_wait)
        self._pending_at = min(self._pending_at, now + wait)
        return wait

    def _start_ahead(self) -> float:
        """Start runs ahead for slots that are soon free. Return for how many seconds it need not be asked again."""
        now = time.monotonic()
        # Of a copy, as other threads add to it.
        if (count := soon_free(self._freed.copy(), now=now, within=self._ahead_seconds)) == 0:
            return self._longest_wait
        if (left := self._ahead_at + AHEAD_EVERY_SECONDS - now) > 0:
            return left
        self._ahead_at = now
        self._executor.run(self._dispatcher.start_ahead(count))
        return self._longest_wait


def soon_free(freed: Sequence[float], *, now: float, within: float) -> int:
    """Return how many slots will come free within so many seconds, going by the moments at which the last ones did."""
    lately = sum(now - at < FREED_WITHIN_SECONDS for at in freed)
    return math.ceil(lately * within / FREED_WITHIN_SECONDS)


def seconds_until(due: datetime | None, *, now: datetime, most: float) -> float:
    if due is None:
        return most
    return min(max((due - now).total_seconds(), 0.0), most)
