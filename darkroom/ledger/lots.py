"""What several threads ask for at the same time, done as one.

The first does its own at once. Those who come meanwhile wait for it, and all of them are the next lot: under load one
transaction for many, with one lock and one write to the disk, and alone no wait for others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")
R = TypeVar("R")
MOST_AT_ONCE = 16  # answers of several megabytes each


@dataclass(eq=False)
class _Line(Generic[T, R]):
    """Those who ask under one key, while any does; each hears what came, or None where the lot as a whole failed."""

    turn: threading.Lock = field(default_factory=threading.Lock)
    asked: list[tuple[T, Future[tuple[R] | None]]] = field(default_factory=list)


class Lots(Generic[T, R]):
    """`carry_out` does several as one, or none of them, and returns what came of each, in their order."""

    def __init__(self, carry_out: Callable[[Sequence[T]], Sequence[R]]) -> None:
        self._carry_out = carry_out
        self._lock = threading.Lock()
        self._lines: WeakValueDictionary[str, _Line[T, R]] = WeakValueDictionary()

    def do(self, key: str, what: T) -> R:
        """Do it, with whatever else is asked for under the same key meanwhile. Raise what `carry_out` raises for it."""
        mine: Future[tuple[R] | None] = Future()
        with self._lock:
            line = self._lines.setdefault(key, _Line())
            line.asked.append((what, mine))
        with line.turn:
            while not mine.done():
                with self._lock:
                    lot, line.asked = line.asked[:MOST_AT_ONCE], line.asked[MOST_AT_ONCE:]
                self._do_lot(lot)
        came = mine.result()
        if came is None:  # one of them was to blame: each does its own, and hears of its own fault alone
            return self._carry_out([what])[0]
        return came[0]

    def _do_lot(self, lot: Sequence[tuple[T, Future[tuple[R] | None]]]) -> None:
        came: Sequence[tuple[R] | None] = [None] * len(lot)
        try:
            came = [(each,) for each in self._carry_out([what for what, _ in lot])]
        except Exception as error:
            if len(lot) == 1:
                lot[0][1].set_exception(error)
        finally:
            for (_, asked), result in zip(lot, came, strict=True):
                if not asked.done():
                    asked.set_result(result)
