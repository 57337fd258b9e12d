"""A thread of a gateway that does something again and again: when it is woken, and when its rest is over.

What fails is logged, without what it was about, and done again after a pause.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from datetime import timedelta
from types import TracebackType
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from darkroom.errors import DarkroomError

SECONDS_TO_FINISH = 5.0  # a statement may hang for longer


class Loop(ABC):
    """`name`: of the thread. `failing`: what is not done while its turns fail, as a sentence for the log."""

    collects_seconds = 0.0  # between the beginnings of two turns at least: what wakes it meanwhile is one turn

    def __init__(self, name: str, *, failing: str, after_failure: timedelta) -> None:
        self._failing_to = failing
        self._after_failure = after_failure.total_seconds()
        self._logger = logging.getLogger(type(self).__module__)
        self._flag = threading.Event()
        self._stopping = threading.Event()
        # A daemon, as a statement that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopping.set()  # first: who is woken looks at it
        self._flag.set()
        self._thread.join(SECONDS_TO_FINISH)

    def wake(self) -> None:
        """Say that there may be something to do. Return at once."""
        self._flag.set()

    @abstractmethod
    def _turn(self) -> float:
        """Do what there is to do. Return for how many seconds to rest, unless woken."""

    def _work(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            self._flag.clear()  # before the turn: what wakes it during one is another one
            try:
                rest = self._turn()
            except (DarkroomError, SQLAlchemyError) as error:
                # By its class alone: the text of a failed statement has its parameters in it.
                self._logger.warning("%s: %s", self._failing_to, type(error).__name__)
            except Exception:  # nobody has foreseen it, so with where it was
                self._logger.exception(self._failing_to)
            else:
                self._flag.wait(rest)
                self._stopping.wait(max(0.0, began + self.collects_seconds - time.monotonic()))
                continue
            # Not for the flag: who wakes it again and again would have it fail again and again.
            self._stopping.wait(self._after_failure)
