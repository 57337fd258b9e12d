"""How often a key may call: so many a minute, as its user's plan says, counted in this gateway's memory.

Answers say how it stands, in the headers of a draft of the IETF's. Gateways that share the calls each count those that
come to them.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from darkroom.engine.token_bucket import TokenBucket

MINUTE = 60
MOST_KEPT = 10_000  # buckets; beyond, those are dropped that are full, which loses nothing
STATE = "darkroom.rate"  # in the scope of a request


@dataclass(frozen=True, kw_only=True)
class Counted:
    """How it stands with a key after a call. `seconds`: until the next call is taken."""

    taken: bool
    seconds: float
    headers: dict[str, str]


class Rates:
    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[tuple[str, int], TokenBucket] = {}

    def count(self, key: str, per_minute: int) -> Counted:
        """Count a call with the key. A whole minute's may come at once, then they come back one by one."""
        with self._lock:  # endpoints call from many threads, and a bucket has no lock of its own
            bucket = self._bucket((key, per_minute))  # by the rate, too: a plan that is changed counts anew
            taken = bucket.take()
            left, seconds = bucket.saved, bucket.seconds
        full = math.ceil((per_minute - left) * MINUTE / per_minute)
        # draft-ietf-httpapi-ratelimit-headers: of `q` calls in `w` seconds `r` are left, and all again in `t` seconds.
        headers = {
            "RateLimit-Policy": f'"key";q={per_minute};w={MINUTE}',
            "RateLimit": f'"key";r={int(left)};t={full}',
        }
        return Counted(taken=taken, seconds=seconds, headers=headers)

    def _bucket(self, which: tuple[str, int]) -> TokenBucket:
        if which not in self._buckets:
            if len(self._buckets) >= MOST_KEPT:
                self._buckets = {at: each for at, each in self._buckets.items() if each.saved < at[1]}
            self._buckets[which] = TokenBucket(at_once=which[1], per_second=which[1] / MINUTE, clock=self._clock)
        return self._buckets[which]


class RateHeaders:
    """Says on every answer to a key that is counted how it stands, also on refusals and on streams."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(scope[STATE])
            await send(message)

        scope[STATE] = dict[str, str]()
        await self._app(scope, receive, told if scope["type"] == "http" else send)


def tell(scope: Scope, counted: Counted) -> None:
    """Have the answer to this request say how it stands."""
    scope[STATE].update(counted.headers)
