"""Turns at what takes the machine for longer than a call of a job function: to fetch, verify and store a file.

Whoever finds all of them taken stands in line, first come, first served. So the job functions of a burst get to their
next lines as their results come, and go on to what they ask for next; the files of those before are stored meanwhile.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from darkroom.engine.signals import RetryLater


class Turns:
    """So many at once, or `few` while others have the right of way. `on_come`: told of each one that comes."""

    def __init__(self, at_once: int, *, few: int, on_come: Callable[[], None]) -> None:
        self._at_once = at_once
        self._few = few
        self._most = at_once
        self._on_come = on_come
        self._lock = threading.Lock()
        self._taken = 0
        self._line: deque[threading.Event] = deque()
        self._closed = False

    @property
    def count(self) -> int:
        """Return how many have a turn or stand in line."""
        return self._taken + len(self._line)

    def give_way(self, to_others: bool) -> None:
        """Let only a few have turns from now on, or as many as may again."""
        with self._lock:
            self._most = self._few if to_others else self._at_once
            self._admit()

    def close(self) -> None:
        """Send away those who stand in line, and who comes yet: nothing that they came for has begun."""
        with self._lock:
            self._closed = True
            self._most = self.count  # for all who wait: each wakes, and finds it closed
            self._admit()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn, and give it to the next in line at the block's end. Raise `RetryLater` once it is closed."""
        mine = threading.Event()
        with self._lock:
            if self._closed:  # nobody would give a turn to a line that is gone
                raise RetryLater(0)
            self._line.append(mine)
            self._admit()
        self._on_come()
        mine.wait()
        try:
            if self._closed:
                raise RetryLater(0)
            yield
        finally:
            with self._lock:
                self._taken -= 1
                self._admit()

    def _admit(self) -> None:
        while self._line and self._taken < self._most:
            self._taken += 1
            self._line.popleft().set()
