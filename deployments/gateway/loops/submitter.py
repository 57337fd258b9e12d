"""Sends the first paid call of a job as it gets its slot, while Prefect's run for it is being made, forked and begun.

A run takes 0.3 s to its first line, most of what a lone picture takes beside the provider; it finds its row in flight,
and adopts it. Also a run that has a process already would be later: it is told of the job, looks, and takes it up. So
what there is a thread for is on record as being sent before any run is told of its job, and no run looks at it for
nothing; what waits for a thread is sent by whoever is first, its run or a thread,
and by the run alone where that had a process when the slot was given.

Only what a run would send just the same is sent here, by the same code (`darkroom/engine/submit.py`): a gateway that
dies between two of its steps leaves the row as a run that dies does. Everything else is left to the run: the user's own
files to be brought to the provider, a provider whose answer is the outcome, what was refused before, an account whose
block could not be read yet, and what does not find a place among the few threads here, as the gateway has others to
answer.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import TracebackType
from typing import NoReturn, Self

from sqlalchemy.exc import SQLAlchemyError

from darkroom.deployments.gateway.loops.block_cache import BlockCache
from darkroom.engine.submit import Sender, send_begun
from darkroom.errors import DarkroomError
from darkroom.ledger import Granted, Implied, Ledger, Request
from darkroom.media.formats import Media
from darkroom.providers.models import model_of_version
from darkroom.settings import Settings

logger = logging.getLogger(__name__)

THREADS = 4
MOST_WAITING = 16  # beside those under way; a burst's others are sent by their run, at its pace


class Submitter:
    def __init__(
        self, ledger: Ledger, settings: Settings, blocks: BlockCache, act_on: Callable[[Implied], None]
    ) -> None:
        self._ledger = ledger
        self._blocks = blocks
        self._on = settings.submit_at_grant
        self._sender = Sender(
            ledger=ledger,
            provider_of=blocks.provider,
            files_of=lambda _: _NoFiles(),
            webhooks_at=settings.webhook_url,
            carry_out=act_on,
            ahead=True,
        )
        self._lock = threading.Lock()
        self._free = THREADS  # how many are neither sending nor about to
        self._waiting: dict[str, timedelta] = {}  # for a thread, by ref: how long the call may take
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="submitter")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock:
            self._on = False
            self._waiting.clear()  # their runs send them
        # Those under way are waited for: a POST that is cut off leaves a row of which nobody knows whether it was paid.
        self._threads.shutdown()

    @property
    def idle(self) -> bool:
        """Return whether all that was taken is done, or left to the run."""
        with self._lock:
            return self._free == THREADS and not self._waiting

    def take(self, granted: Sequence[Granted]) -> None:
        """Have those sent that may be sent ahead. Return once those for which a thread is free are on record so.

        Nothing is raised: who grants goes on, and has runs made for what could not be sent.
        """
        try:
            self._take(granted)
        except SQLAlchemyError as error:
            logger.info("Calls are left to their runs: %s", type(error).__name__)
        except Exception:
            logger.exception("Calls are left to their runs")

    def _take(self, granted: Sequence[Granted]) -> None:
        # What a run has already is that run's to send.
        new = {each.ref: limit for each in granted if each.run_id is None and (limit := self._limit(each)) is not None}
        with self._lock:
            if not self._on:
                return
            room = self._free + MOST_WAITING - len(self._waiting)
            self._waiting |= list(new.items())[: max(room, 0)]
            for row in self._next(self._free):
                self._free -= 1
                self._threads.submit(self._send_all, row)

    def _limit(self, granted: Granted) -> timedelta | None:
        """Return how long the call may take; None for one that is left to its run."""
        try:
            if self._blocks.provider(granted.account_id).immediate:
                return None
            model = model_of_version(granted.endpoint, granted.model_version)
        except DarkroomError:
            return None  # its block could not be read yet, or nobody sells the model any more: its run finds out
        return self._ledger.timing.scale(model.deadline)

    def _next(self, most: int) -> list[Request]:
        """Put on record as being sent so many of those that wait, and return them; with the lock held."""
        calls, self._waiting = self._waiting, {}
        if not calls or not most:
            self._waiting = calls
            return []
        try:
            begun = self._ledger.requests.begin_ahead(calls, most=most)
        except SQLAlchemyError as error:
            logger.info("%d calls are left to their runs: %s", len(calls), type(error).__name__)
            return []
        except Exception:  # else the thread would be counted as sending for good
            logger.exception("%d calls are left to their runs", len(calls))
            return []
        if len(begun) == most:  # else none of the others may be sent here
            sent = {row.ref for row in begun}
            self._waiting = {ref: limit for ref, limit in calls.items() if ref not in sent}
        return begun

    def _send_all(self, row: Request) -> None:
        """Send the call, and then what waits for a thread."""
        rows = [row]
        while rows:
            self._send(rows[0])
            with self._lock:
                rows = self._next(1)
                self._free += not rows

    def _send(self, row: Request) -> None:
        try:
            sent = send_begun(self._sender, row)
            if sent.cancel_requested_at is not None and sent.request_id is not None and not sent.status.terminal:
                # The run may have looked before the provider's id was known.
                self._blocks.provider(row.account_id).cancel(sent)
        except (DarkroomError, SQLAlchemyError) as error:  # what the provider has refused is on record by now
            logger.info("A call is left to its run: %s", type(error).__name__)
        except Exception:
            logger.exception("A call could not be sent")


class _NoFiles:
    """Stands where a call would name the user's files: such a call is not sent here."""

    places = ()

    def read(self, reference: str) -> Media:
        self._refuse()

    def copy_at(self, account_id: str, reference: str, *, until: object) -> str | None:
        self._refuse()

    def keep_copy(self, account_id: str, reference: str, *, url: str, expires_at: object) -> None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise AssertionError("a call with the user's files is not sent by a gateway")
