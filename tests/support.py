"""What tests of every kind need: waiting for something to become true, never for time to pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], *, timeout: float = 10, every: float = 0.01, what: str = "") -> T:
    """What the predicate gives as soon as it is true."""
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        assert time.monotonic() < deadline, f"waited {timeout} s in vain{what and f' for {what}'}"
        time.sleep(every)
    return value
