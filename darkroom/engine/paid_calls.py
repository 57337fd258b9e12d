"""The paid calls that this process has under way.

An answer that is lost with its process may be paid again: where the answer is the outcome, nobody can be asked for it.
So a process that is told to end begins no more, and lives until those under way have come in and are on record.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from darkroom.errors import Retry


class PaidCalls:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._under_way = 0
        self._begins_more = True

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count a call, from before its row says that it is sent until its answer is on record.

        Raise Retry where the process is ending: the row is granted still, and whoever comes next sends it.
        """
        with self._changed:
            if not self._begins_more:
                raise Retry("Its process is ending, and begins no paid call any more.")
            self._under_way += 1
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def begin_no_more(self) -> bool:
        """Refuse calls from now on. Return whether any are under way."""
        with self._changed:
            self._begins_more = False
            return self._under_way > 0

    def wait(self) -> None:
        """Return when none is under way."""
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way)


PAID_CALLS = PaidCalls()
