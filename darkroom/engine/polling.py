"""Asking the provider, where it cannot reach us: every request in flight, a few side by side."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context

from prefect.logging import get_run_logger

from darkroom.engine.resources import Resources
from darkroom.errors import DarkroomError
from darkroom.ledger import OUTAGES, Request
from darkroom.providers.registry import accounts, heard_from

SIDE_BY_SIDE = 4


class Poller:
    """`ask_all()` returns at once; a settled request notifies the run's listener like a webhook."""

    def __init__(self, resources: Resources, run_id: str) -> None:
        self._resources = resources
        self._run_id = run_id
        self._every_seconds = resources.timing.poll.total_seconds()
        self._heard = heard_from(resources.settings)
        self._any = not self._heard.issuperset(accounts())  # else the ledger is not even asked
        self._polling: set[str] = set()
        self._next = 0.0

    @contextmanager
    def threads(self) -> Iterator[None]:
        with ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="poll") as self._pool:
            self._next = time.monotonic() + self._every_seconds
            try:
                yield
            finally:
                self._pool.shutdown(cancel_futures=True)
                self._polling.clear()  # of what was cancelled before it began, too

    def ask_all(self) -> None:
        if not self._any or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._every_seconds
        for row in self._resources.ledger.requests.in_flight_of_run(self._run_id):
            if row.ref not in self._polling and row.account_id not in self._heard:
                self._polling.add(row.ref)
                self._pool.submit(copy_context().run, self._poll, row)

    def _poll(self, row: Request) -> None:
        try:
            outcome = self._resources.providers.of(row.account_id).poll(row)
            if outcome is not None:
                _, implied = self._resources.ledger.requests.settle(row.ref, outcome, via="poll")
                self._resources.dispatcher.carry_out(implied)
        except (DarkroomError, *OUTAGES) as error:  # asked again in a second, and by reconcile
            get_run_logger().info("%s could not be polled: %s", row.ref, type(error).__name__)
        finally:
            self._polling.discard(row.ref)
