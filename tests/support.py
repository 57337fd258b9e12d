"""What tests of every kind need: waiting for something to become true, never for time to pass; and ports."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
# How many times as long as on a quiet machine anything may take. A wait only ends what hangs; what a test holds of time
# is an order, a count, or that what would have helped otherwise was switched off.
SLOW = 5


def wait_until(predicate: Callable[[], T], *, timeout: float = 10, every: float = 0.01, what: str = "") -> T:
    """Return what the predicate gives as soon as it is true. `timeout`: seconds that a quiet machine needs at most."""
    deadline = time.monotonic() + SLOW * timeout
    while not (value := predicate()):
        assert time.monotonic() < deadline, f"waited {SLOW * timeout} s in vain{what and f' for {what}'}"
        time.sleep(every)
    return value


# Below what the kernel gives to outgoing connections, one of which might have taken the port before its server does.
_PORTS = range(12_000, 32_000)


def free_port() -> int:
    while True:
        port = random.SystemRandom().choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
