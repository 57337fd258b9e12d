"""The provider's own book: who submitted what, with which outcome, and which webhooks went out.

In memory and touched by one event loop only; what is to survive the process is in a journal too. Tests and benchmarks
read it through `/_sim/requests` and `/_sim/stats` to learn what really happened on the provider's side, e.g. that a
lost submit answer made one request.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from typing import Any

from .faults import Faults


class State(StrEnum):
    IN_QUEUE = "IN_QUEUE"  # waits for one of the account's slots; free
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"  # over, for better or worse: there is no FAILED


class Scope(StrEnum):
    """What a key may do."""

    API = "API"  # submit, and read the catalogue, the prices and the list of requests
    ADMIN = "ADMIN"  # that, the bills, and deletions
    BILLING = "BILLING"  # read the bills, and nothing else


@dataclass(frozen=True, kw_only=True)
class Account:
    key: str
    user_id: str
    locked: bool = False  # it begins without a balance, so that every submit is refused


_USER = Account(key="sim:key", user_id="sim-user")
_OTHER = Account(key="sim:other", user_id="other-user")
_LOCKED = Account(key="sim:locked", user_id="locked-user", locked=True)
# By key. The first account has keys of every kind.
ACCOUNTS = {
    "sim:key": _USER,
    "sim:admin": _USER,
    "sim:billing": _USER,
    "sim:other": _OTHER,
    "sim:other-admin": _OTHER,
    "sim:locked": _LOCKED,
}
SCOPES = dict.fromkeys(ACCOUNTS, Scope.API) | {
    "sim:admin": Scope.ADMIN,
    "sim:other-admin": Scope.ADMIN,
    "sim:billing": Scope.BILLING,
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a request ended: the answer to its result GET, and the words in its status and webhook."""

    http_status: int
    body: dict[str, Any]
    billable_units: str = "0"  # what fal's header says of input that is not valid
    error_type: str | None = None  # platform failures only: a model's own rejection carries none

    @property
    def succeeded(self) -> bool:
        return self.http_status == 200


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One webhook POST and what came of it."""

    at: datetime
    kind: str
    status_code: int | None
    error: str | None = None


@dataclass(eq=False, kw_only=True)
class Entry:
    request_id: str
    endpoint: str
    input: dict[str, Any]
    account: Account
    webhook_url: str | None
    faults: Faults
    key: str = ""  # that it was submitted with
    file_lifetime_seconds: float | None = None  # of what it makes
    start_by: datetime | None = None  # else it ends without having run
    file_access: str = "allow"  # to what it makes
    outputs: list[str] = field(default_factory=list)  # addresses of what it made
    payloads_kept: bool = True  # else the list of requests does not tell them
    payloads_deleted: bool = False
    # Of the try: one that fal makes by itself has another, and the request's own id stays.
    gateway_request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    state: State = State.IN_QUEUE
    submitted_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started_at: datetime | None = None
    finished_at: datetime | None = None
    outcome: Outcome | None = None
    seconds: float = 0.0  # that it is to be in progress
    retries: int = 0  # that its queue has made by itself
    files_read: list[str] = field(default_factory=list)
    cancel_requested: bool = False
    result_reads: int = 0
    deliveries: list[Delivery] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    announced: asyncio.Event = field(default_factory=asyncio.Event)  # the first webhook attempt is over
    is_announced: bool = False  # all of them are, or there are none

    def start(self) -> None:
        self.state = State.IN_PROGRESS
        # One that was in progress when the process was killed keeps its first start.
        self.started_at = self.started_at or datetime.now(UTC)

    def try_again(self) -> None:
        """Give it to another runner: the request stays the same, and its try has another id."""
        self.gateway_request_id = str(uuid.uuid4())
        self.retries += 1

    def finish(self, outcome: Outcome, *, at: datetime | None = None) -> None:
        self.state = State.COMPLETED
        self.finished_at = at or datetime.now(UTC)
        self.outcome = outcome
        self.finished.set()

    # Every look into the book by a word asks all requests for it.
    @cached_property
    def text(self) -> str:
        return text_of(self.input)

    @property
    def inference_seconds(self) -> float:
        if self.started_at is None or self.finished_at is None:
            return 0.0
        return (self.finished_at - self.started_at).total_seconds()


class Book:
    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self.submit_calls = 0
        self.refusals: Counter[str] = Counter()  # by the fault that asked for it

    def add(self, entry: Entry) -> None:
        self._entries[entry.request_id] = entry

    def get(self, request_id: str) -> Entry | None:
        return self._entries.get(request_id)

    def entries(self) -> list[Entry]:
        return list(self._entries.values())


def text_of(arguments: Mapping[str, Any]) -> str:
    """Return what an input says, line by line: its prompt, its trigger word, the addresses of its files."""
    return "\n".join(_strings(arguments))


def _strings(value: Any) -> Iterator[str]:
    # A file inline says nothing, and may be megabytes long.
    if isinstance(value, str) and not value.startswith("data:"):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)


def new_request_id() -> str:
    """Make a version 7 UUID, as fal's are: time first, so that ids sort by age, to the millisecond."""
    milliseconds = time.time_ns() // 1_000_000
    value = milliseconds << 80 | int.from_bytes(os.urandom(10), "big")
    # Version and variant, where RFC 9562 has them.
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))
