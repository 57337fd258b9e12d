"""One account's line at the provider: how many of its requests run at once, and who is next.

First come, first served. Waiting is free and unlimited; only the request's own start time-out or a cancel ends it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from .book import Entry, Outcome

Work = Callable[[Entry], Awaitable[Outcome]]


class Line:
    def __init__(
        self, *, slots: int, work: Work, began: Callable[[Entry], None], done: Callable[[Entry], None]
    ) -> None:
        self.slots = slots
        self.running = 0
        self.peak = 0
        self.most_open = 0  # in the queue or in progress: shows a client's excess that our own slots would hide
        self.tasks: set[asyncio.Task[None]] = set()  # the event loop alone would not keep them alive
        self._work = work
        self._began = began
        self._done = done
        self._waiting: OrderedDict[str, Entry] = OrderedDict()  # a cancel takes one out of its middle

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def open(self) -> int:
        return self.waiting + self.running

    @property
    def is_full(self) -> bool:
        return self.running >= self.slots

    def join(self, entry: Entry, *, on_timeout: Outcome) -> None:
        self._waiting[entry.request_id] = entry
        self.most_open = max(self.most_open, self.open)
        # It is for the start alone: one that an earlier process had started has met it.
        if entry.start_by is not None and entry.started_at is None:
            remaining = (entry.start_by - datetime.now(UTC)).total_seconds()
            asyncio.get_running_loop().call_later(max(0.0, remaining), self.leave, entry, on_timeout)
        self.start_next()

    def leave(self, entry: Entry, outcome: Outcome) -> bool:
        """End a request that has not started. False if it has."""
        if self._waiting.pop(entry.request_id, None) is None:
            return False
        self._finish(entry, outcome)
        return True

    def position(self, entry: Entry) -> int:
        return next((n for n, request_id in enumerate(self._waiting) if request_id == entry.request_id), 0)

    def start_next(self) -> None:
        while self._waiting and not self.is_full:
            _, entry = self._waiting.popitem(last=False)
            self.running += 1
            self.peak = max(self.peak, self.running)
            entry.start()
            self._began(entry)
            task = asyncio.get_running_loop().create_task(self._run(entry))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _run(self, entry: Entry) -> None:
        try:
            outcome = await self._work(entry)
        finally:
            self.running -= 1
        self._finish(entry, outcome)
        self.start_next()

    def _finish(self, entry: Entry, outcome: Outcome) -> None:
        entry.finish(outcome)
        self._done(entry)
