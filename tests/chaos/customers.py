"""Customers as they are: they order over HTTP, and order again with the same key until they have an answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Self

import httpx
from support import SLOW

from chaos.scenario import Order

AT_ONCE = 16
PATIENCE_SECONDS = 240.0


@dataclass(frozen=True, kw_only=True)
class Answered:
    order: Order
    job_id: str
    tries: int


class Customers:
    def __init__(self, url: str, keys: Mapping[str, str], *, seed: int) -> None:
        self._keys = keys
        self._draw = Random(seed)
        self._http = httpx.Client(base_url=url, timeout=SLOW * 20, trust_env=False)
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="customer")
        self._orders: list[Future[Answered]] = []
        self._gone = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._gone.set()
        self._pool.shutdown(cancel_futures=True)
        self._http.close()

    def order(self, order: Order) -> None:
        self._orders.append(self._pool.submit(self._until_answered, order))

    def answers(self) -> list[Answered]:
        return [order.result() for order in self._orders]

    def _until_answered(self, order: Order) -> Answered:
        deadline, tries = time.monotonic() + PATIENCE_SECONDS, 0
        while time.monotonic() < deadline and not self._gone.wait(self._draw.random() if tries else 0):
            tries += 1
            if (job_id := self._post(order)) is not None:
                return Answered(order=order, job_id=job_id, tries=tries)
        raise TimeoutError(f"{order.key} was posted {tries} times in vain")

    def _post(self, order: Order) -> str | None:
        """None where another try is due: nobody answered, or the answer was a server's error."""
        headers = {"Authorization": f"Bearer {self._keys[order.user]}", "Idempotency-Key": order.key}
        try:
            answer = self._http.post("/v1/images", json=dict(order.body), headers=headers)
        except httpx.TransportError:
            return None
        if answer.status_code >= 500:
            return None
        assert answer.status_code == 202, answer.text
        return str(answer.json()["job_id"])
