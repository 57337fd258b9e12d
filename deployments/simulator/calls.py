"""The book of the other providers' calls, and how they misbehave on demand.

Gemini, ElevenLabs and Mux answer over one HTTP call each. A rule names the calls it is meant for (provider, operation,
a part of what is said in them, how many) and what goes wrong; the first that applies decides. `billed` is what matters
to tests: what a real provider would have charged for, whether its answer arrived or not.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from .book import Delivery, new_request_id


class Which(StrEnum):
    GEMINI = "gemini"
    ELEVENLABS = "elevenlabs"
    MUX = "mux"


class CallFault(StrEnum):
    NORMAL = "normal"
    # Refused, nothing carried out
    RATE_LIMITED = "429"
    SERVER_ERROR = "500"
    UNAVAILABLE = "503"
    REJECT = "reject"  # 400, for good
    QUOTA = "quota"  # the account has no credits left
    PAGE = "page"  # 502 with the page of something in between
    # Carried out and billed
    HANG_UP = "hang_up"  # and the connection closes without an answer
    BLOCKED = "blocked"  # Gemini: the answer is withheld
    CUT = "cut"  # Gemini: at max_output_tokens. Others: the answer breaks off in its middle
    GARBAGE = "garbage"  # Gemini: not the JSON it should be. ElevenLabs: no sound
    BAD_FILM = "bad_film"  # Mux: the asset ends as errored

    @property
    def refuses(self) -> bool:
        return self in _REFUSALS


_REFUSALS = {
    CallFault.RATE_LIMITED,
    CallFault.SERVER_ERROR,
    CallFault.UNAVAILABLE,
    CallFault.REJECT,
    CallFault.QUOTA,
    CallFault.PAGE,
}


class Announcement(StrEnum):
    """The outcome of Mux' webhook."""

    NORMAL = "normal"
    LOST = "lost"
    TWICE = "twice"
    FORGED = "forged"  # signed with another secret
    OLD = "old"  # signed six minutes ago


class CallFaults(BaseModel):
    """What goes wrong with one call. Without arguments: nothing."""

    # A misspelt fault would be a rule that never does anything.
    model_config = ConfigDict(frozen=True, extra="forbid")

    latency: float | None = Field(None, ge=0, description="Seconds, instead of the provider's own.")
    hold: bool = Field(False, description="No answer until POST /_sim/calls/{id}/release. Of a film: until ready.")
    fault: CallFault = CallFault.NORMAL
    retry_after: int = Field(1, ge=0, description="Seconds, for 429.")
    webhook: Announcement = Announcement.NORMAL


class CallRule(CallFaults):
    provider: Which | None = None
    operation: str | None = Field(None, description="generate, speak, create_upload, put_film or cancel_upload.")
    match: str | None = Field(None, description="Part of what is said in the call: prompt, text, title.")
    times: int | None = Field(None, ge=1, description="Apply to so many calls, then no more.")


@dataclass(eq=False, kw_only=True)
class Call:
    provider: Which
    operation: str
    text: str
    input: dict[str, Any]
    faults: CallFaults
    id: str = field(default_factory=new_request_id)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    finished_at: datetime | None = None
    http_status: int | None = None  # None: no answer was given, or not yet
    billed: bool = False
    result: dict[str, Any] = field(default_factory=dict)  # what it came to, for those who look
    deliveries: list[Delivery] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def take_time(self, usual_seconds: float) -> None:
        await asyncio.sleep(usual_seconds if self.faults.latency is None else self.faults.latency)
        if self.faults.hold:
            await self.released.wait()

    def end(self, http_status: int | None) -> None:
        self.http_status = http_status
        self.finished_at = datetime.now(UTC)


class Calls:
    def __init__(self) -> None:
        self._calls: dict[str, Call] = {}
        self._rules: dict[int, CallRule] = {}
        self._left: dict[int, int] = {}
        self._last_id = 0
        self._at_once: Counter[Which] = Counter()
        self._peaks: Counter[Which] = Counter()  # shows whether a client keeps to what a provider allows at once

    def add_rule(self, rule: CallRule) -> int:
        self._last_id += 1
        self._rules[self._last_id] = rule
        if rule.times is not None:
            self._left[self._last_id] = rule.times
        return self._last_id

    def rules(self) -> dict[int, CallRule]:
        return dict(self._rules)

    def clear(self) -> None:
        """No rule any more, and nothing is held."""
        self._rules.clear()
        self._left.clear()
        for call in self._calls.values():
            call.released.set()

    @contextmanager
    def taken(self, provider: Which, operation: str, *, text: str, input: dict[str, Any]) -> Iterator[Call]:
        """Record a call from its arrival to its answer."""
        call = Call(
            provider=provider,
            operation=operation,
            text=text,
            input=input,
            faults=self._faults(provider, operation, text),
        )
        self._calls[call.id] = call
        self._at_once[provider] += 1
        self._peaks[provider] = max(self._peaks[provider], self._at_once[provider])
        try:
            yield call
        finally:
            self._at_once[provider] -= 1

    def under_way(self, provider: Which) -> int:
        return self._at_once[provider]

    def get(self, call_id: str) -> Call | None:
        return self._calls.get(call_id)

    def all(self) -> list[Call]:
        return list(self._calls.values())

    def stats(self) -> dict[str, Any]:
        """By provider: how many calls there were, how many were refused by rule or billed, the most at once."""
        counts = {
            which.value: {"calls": 0, "billed": 0, "refused": 0, "max_at_once": self._peaks[which]} for which in Which
        }
        for call in self._calls.values():
            count = counts[call.provider.value]
            count["calls"] += 1
            count["billed"] += call.billed
            count["refused"] += call.faults.fault.refuses
        return counts

    def _faults(self, provider: Which, operation: str, text: str) -> CallFaults:
        for rule_id, rule in self._rules.items():
            if self._left.get(rule_id) != 0 and _applies(rule, provider, operation, text):
                if rule_id in self._left:
                    self._left[rule_id] -= 1
                return CallFaults(**rule.model_dump(include=set(CallFaults.model_fields)))
        return CallFaults()


def _applies(rule: CallRule, provider: Which, operation: str, text: str) -> bool:
    return (
        rule.provider in (None, provider)
        and rule.operation in (None, operation)
        and (rule.match is None or rule.match in text)
    )
