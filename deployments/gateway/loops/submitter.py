"""Sends the first paid call of a job as it gets its slot, while Prefect's run for it is being made, forked and begun.

A run takes 0.3 s to its first line, most of what a lone picture takes beside the provider; it finds its row in flight,
and adopts it. Only what a run would send just the same is sent here, by the same code (`darkroom/engine/submit.py`):
whoever is first to commit *submitting* sends it, and a gateway that dies between two of its steps leaves the row as a
run that dies does. Everything else is left to the run: the user's own files to be brought to the provider, a provider
whose answer is the outcome, what was refused before, an account whose block could not be read yet, and what does not
find a place among the few threads here, as the gateway has others to answer.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, NoReturn, Self

from sqlalchemy.exc import SQLAlchemyError

from darkroom.deployments.gateway.loops.block_cache import BlockCache
from darkroom.engine.submit import Sender, send
from darkroom.errors import DarkroomError, Retry
from darkroom.ledger import Granted, Implied, Ledger, Request
from darkroom.media.formats import Media
from darkroom.providers.base import ASSET
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
        self._places = threading.BoundedSemaphore(THREADS + MOST_WAITING)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="submitter")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # Those under way are waited for: a POST that is cut off leaves a row of which nobody knows whether it was paid.
        self._threads.shutdown(cancel_futures=True)

    def take(self, granted: Sequence[Granted]) -> None:
        """Have those sent that may be sent ahead. Returns at once."""
        # What a run has already is that run's to send.
        refs = [each.ref for each in granted if each.run_id is None]
        if self._on and refs:
            self._later(self._choose, refs)

    def _later(self, do: Callable[[Any], None], what: Any) -> None:
        if self._places.acquire(blocking=False):
            self._threads.submit(self._go, do, what)

    def _go(self, do: Callable[[Any], None], what: Any) -> None:
        try:
            do(what)
        except (DarkroomError, SQLAlchemyError) as error:  # what the provider has refused is on record by now
            logger.info("A call is left to its run: %s", type(error).__name__)
        except Exception:
            logger.exception("A call could not be sent")
        finally:
            self._places.release()

    def _choose(self, refs: list[str]) -> None:
        """Pick the rows that may be sent ahead, send the first and leave the others to the other threads."""
        rows = [row for row in self._ledger.requests.to_send_ahead(refs) if self._may_send(row)]
        # A thread each: a provider may take seconds to answer one.
        for row in rows[1:]:
            self._later(self._send, row)
        if rows:
            self._send(rows[0])

    def _may_send(self, row: Request) -> bool:
        try:
            return not self._blocks.provider(row.account_id).immediate and not names_a_file(row.input)
        except Retry:
            return False  # its block could not be read yet

    def _send(self, row: Request) -> None:
        sent = send(self._sender, row)
        if sent.cancel_requested_at is not None and sent.request_id is not None and not sent.status.terminal:
            # The run may have looked before the provider's id was known.
            self._blocks.provider(row.account_id).cancel(sent)


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


def names_a_file(value: Any) -> bool:
    """Return whether a file of the media store is named anywhere in an input."""
    if isinstance(value, dict):
        return any(map(names_a_file, value.values()))
    if isinstance(value, list):
        return any(map(names_a_file, value))
    return isinstance(value, str) and value.startswith(ASSET)
