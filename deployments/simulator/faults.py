"""How the simulator misbehaves: rules that operators set, and which of them applies to a submit.

A rule names the requests it is meant for (a substring of what their input says, an endpoint, how many, with what
chance) and what goes wrong with them. The first rule that applies decides, unless it only adds its part (`combines`).
"""

from __future__ import annotations

import random
from decimal import Decimal
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class WebhookFault(StrEnum):
    NORMAL = "normal"
    LOST = "lost"  # never sent
    EARLY = "early"  # sent and answered before the submit answer is returned
    TWICE = "twice"  # sent again after it was taken
    FORGED = "forged"  # the signature is not fal's
    OLD = "old"  # signed by fal, six minutes ago
    OTHER_ACCOUNT = "other_account"  # signed by fal, for another customer
    FOREIGN_TOKEN = "foreign_token"  # genuine, but posted to `foreign_url`; unset: our URL with another token
    NULL_PAYLOAD = "null_payload"  # a success whose payload could not be serialized


class SubmitFault(StrEnum):
    NORMAL = "normal"
    CUT = "cut"  # the request is accepted, the connection closes without an answer
    RATE_LIMITED = "429"  # not accepted; Retry-After is `retry_after`
    SERVER_ERROR = "500_fal"  # not accepted; fal's own JSON, with x-fal-request-id
    INGRESS_ERROR = "503_nginx"  # not accepted; the ingress' page, without x-fal-request-id
    LOCKED = "403_locked"  # not accepted; balance exhausted

    @property
    def refuses(self) -> bool:
        return self not in (SubmitFault.NORMAL, SubmitFault.CUT)


class FileFault(StrEnum):
    NORMAL = "normal"
    MISSING = "missing"  # 404
    TRUNCATED = "truncated"  # the connection closes in the middle
    TRUNCATED_ONCE = "truncated_once"  # … the first time
    STALLED_ONCE = "stalled_once"  # … the first time, and only after many seconds
    CUT_SHORT = "cut_short"  # half a picture under an honest Content-Length
    HTML = "html"  # a web page where a picture should be
    FOREIGN_HOST = "foreign_host"  # the result points outside fal's CDN
    REDIRECT = "redirect"  # fal's URL redirects outside fal's CDN
    HUGE = "huge"  # declares and sends `file_bytes`
    HUGE_UNDECLARED = "huge_undeclared"  # sends `file_bytes` without a Content-Length
    LARGE = "large"  # sound, and of `file_bytes`: a film with room at its end
    PIXEL_BOMB = "pixel_bomb"  # a small PNG of 20000 × 20000


class Faults(BaseModel):
    """What goes wrong with one request. Without arguments: nothing."""

    # A misspelt fault would be a rule that never does anything.
    model_config = ConfigDict(frozen=True, extra="forbid")

    latency: float | None = Field(None, ge=0, description="Seconds in progress, instead of the simulator's own.")
    hold: bool = Field(False, description="Stay IN_PROGRESS until POST /_sim/requests/{id}/release.")
    submit: SubmitFault = SubmitFault.NORMAL
    submit_delay: float = Field(0, ge=0, description="Seconds between accepting a request and answering.")
    retry_after: int = Field(2, ge=0, description="Seconds, for submit=429.")
    result: str = Field(
        "normal",
        pattern=r"^(normal|422_content_policy|500|504_once|error:[a-z_]+)$",
        description="504_once: a success whose result is unreadable the first time. error:<any of fal's error types>.",
    )
    # At most nine: fal's queue makes ten attempts in all.
    retries: int = Field(
        0, ge=0, le=9, description="So many tries end without a runner, and the queue tries again; each has its time."
    )
    webhook: WebhookFault = WebhookFault.NORMAL
    webhook_delay: float = Field(0, ge=0, description="Seconds from completion to the webhook.")
    webhook_then_good: bool = Field(False, description="After a false one, send the genuine one as well.")
    foreign_url: str | None = None
    file: FileFault = FileFault.NORMAL
    file_bytes: int = Field(1024**3, ge=1, description="For the huge files.")
    flagged: bool = Field(False, description="Its pictures are marked in has_nsfw_concepts, where the model does so.")
    units: str | None = Field(None, pattern=r"^\d+(\.\d+)?$", description="Billable units, instead of the model's own.")
    units_header: bool = Field(True, description="False: the result's header does not tell the billable units.")
    billing_lag: float | None = Field(None, ge=0, description="Seconds until its billing events can be seen.")
    billing: bool = Field(True, description="False: its billing events are not seen before they are released.")
    billing_parts: int = Field(1, ge=1, le=10, description="So many billing events for the one request.")
    discount: Decimal | None = Field(None, ge=0, le=100, description="Percent.")


class Rule(Faults):
    match: str | None = Field(None, description="Substring of any text in the input: prompt, file address …")
    endpoint: str | None = None
    times: int | None = Field(None, ge=1, description="Apply to so many requests, then no more.")
    chance: float = Field(1, ge=0, le=1)
    seeded: bool = Field(True, description="Draw the chance from the simulator's seed and the number of the submit.")
    combines: bool = Field(
        False,
        description="Later rules are looked at too, and add what this one does not name: so submit, webhook and file "
        "can each go wrong by a chance of its own.",
    )

    def named(self) -> dict[str, Any]:
        """Return the faults that the rule speaks of."""
        return self.model_dump(include=set(Faults.model_fields), exclude_unset=True)


class RuleBook:
    def __init__(self, *, seed: int) -> None:
        self._seed = seed
        self._rules: dict[int, Rule] = {}
        self._left: dict[int, int] = {}
        self._last_id = 0

    def add(self, rule: Rule) -> int:
        self._last_id += 1
        self._rules[self._last_id] = rule
        if rule.times is not None:
            self._left[self._last_id] = rule.times
        return self._last_id

    def remove(self, rule_id: int) -> bool:
        self._left.pop(rule_id, None)
        return self._rules.pop(rule_id, None) is not None

    def clear(self) -> None:
        self._rules.clear()
        self._left.clear()

    def listing(self) -> dict[int, Rule]:
        return dict(self._rules)

    def faults_for(self, *, endpoint: str, text: str, submit_number: int) -> Faults:
        said: dict[str, Any] = {}
        for rule_id, rule in self._rules.items():
            if self._applies(rule_id, rule, endpoint, text, submit_number):
                self._use_up(rule_id)
                said = rule.named() | said  # what an earlier rule names stands
                if not rule.combines:
                    break
        # A copy for the request: taking rules away changes nothing about those already under way.
        return Faults(**said)

    def _applies(self, rule_id: int, rule: Rule, endpoint: str, text: str, submit_number: int) -> bool:
        return (
            self._left.get(rule_id) != 0
            and (rule.endpoint is None or rule.endpoint == endpoint)
            and (rule.match is None or rule.match in text)
            and (rule.chance >= 1 or self._draw(rule_id, rule, submit_number) < rule.chance)
        )

    def _draw(self, rule_id: int, rule: Rule, submit_number: int) -> float:
        """Draw a number from 0 to 1."""
        # By the submit's number the same order of submits meets the same faults again, whatever happens in between;
        # by the rule's id the chances of rules that combine are independent of each other.
        return random.Random(f"{self._seed}/{submit_number}/{rule_id}").random() if rule.seeded else random.random()

    def _use_up(self, rule_id: int) -> None:
        if rule_id in self._left:
            self._left[rule_id] -= 1
