"""What a committed change implies at Prefect, done after the answer and beside it.

A few threads of their own: with Prefect out, each call takes seconds, and neither orders nor webhooks may wait
for that. Past its bound an effects is dropped: `reconcile` does again whatever was not done.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from darkroom.ledger import Implied
from darkroom.orchestrator.dispatch import Dispatcher

logger = logging.getLogger(__name__)

THREADS = 4
MOST_WAITING = 1000


class EffectExecutor:
    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._places = threading.BoundedSemaphore(MOST_WAITING)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="effects")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._threads.shutdown(cancel_futures=True)

    def run(self, implied: Implied) -> None:
        """Submit the effects and return at once. Leave the grant to the admitter."""
        for wake in implied.wakes:
            self._submit(Implied(wakes=(wake,)))
        for start in implied.starts:
            self._submit(Implied(starts=(start,)))
        for job_id in implied.notifies:
            self._submit(Implied(notifies=(job_id,)))
        for job_id in implied.cancels:
            self._submit(Implied(cancels=(job_id,)))
        for deployment in dict.fromkeys(implied.begins):
            self._submit(Implied(begins=(deployment,)))
        if implied.assigns:  # together: jobs that came together go to one run
            self._submit(Implied(assigns=implied.assigns))

    def _submit(self, effects: Implied) -> None:
        if not self._places.acquire(blocking=False):
            logger.warning("Prefect is behind: a run is left to reconcile")
            return
        self._threads.submit(self._go, effects)

    def _go(self, effects: Implied) -> None:
        try:
            if effects.assigns:
                self.run(self._dispatcher.assign(effects.assigns))  # each new run is another effect
            elif effects.begins:
                self.run(self._dispatcher.begin(*effects.begins))
            else:
                self._dispatcher.reach_prefect(effects)
        except Exception:
            logger.exception("An effect at Prefect failed")
        finally:
            self._places.release()
