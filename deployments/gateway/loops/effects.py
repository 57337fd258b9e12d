"""What a committed change implies at Prefect, done after the answer and in the background, by a few threads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from darkroom.ledger import GRANT, Effect, Implied, joined
from darkroom.orchestrator.dispatch import Dispatcher

logger = logging.getLogger(__name__)

THREADS = 4  # of its own: with Prefect out each call takes seconds, for which no order and no webhook may wait
MOST_WAITING = 1000  # beyond, an effect is dropped: `reconcile` does again whatever was not done


class EffectExecutor:
    """`on_grant` has the free slots granted by the one thread that does, and returns at once."""

    def __init__(self, dispatcher: Dispatcher, *, on_grant: Callable[[], None]) -> None:
        self._dispatcher = dispatcher
        self._on_grant = on_grant
        self._places = threading.BoundedSemaphore(MOST_WAITING)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="effects")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._threads.shutdown(cancel_futures=True)  # what was not begun, `reconcile` does

    def run(self, implied: Implied) -> None:
        """Submit the effects and return at once."""
        for effect in joined(implied):
            if effect == GRANT:  # not by these threads: the next slot does not wait for Prefect
                self._on_grant()
            else:
                self._submit(effect)

    def _submit(self, effect: Effect) -> None:
        if not self._places.acquire(blocking=False):
            logger.warning("Prefect is behind: a run is left to reconcile")
            return
        self._threads.submit(self._go, effect)

    def _go(self, effect: Effect) -> None:
        try:
            self.run(self._dispatcher.carry_out_one(effect))  # what follows is another effect
        except Exception:  # the thread goes on, and `reconcile` repeats it
            logger.exception("An effect at Prefect failed")
        finally:
            self._places.release()
