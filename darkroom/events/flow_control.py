"""Flow control: how a deployment's runs may begin, `flow_control` beside `starts_on` in prefect.yaml.

    flow_control:
      debounce: {key: event.user, period: 5m, longest: 1h}
      rate_limit: {key: event.data.account, limit: 10, period: 1h, over: queue}
      priority: "event.data.plan == 'studio' ? 60 : 0"

Here it is read, and asked what one event comes to: under which keys it is collected and counted (`Held`). The ledger
decides when a start begins. A key that an event has not is a decision not to start, with its reason; a declaration
that is wrong is told when the file is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from darkroom.errors import BadInput
from darkroom.events.conditions import DoesNotApply, Expression
from darkroom.ledger.canonical_json import dumps
from darkroom.ledger.flow_control import terms
from darkroom.ledger.flow_control.terms import MOST_PRIORITY, Held, Keep, Terms

LONGEST_KEY = 255  # characters
LIMITS = ("debounce", "batch", "rate_limit", "throttle", "singleton", "concurrency")

Compile = Callable[[str], Expression]  # raises `BadInput` for what is no CEL, or reads what the event never has


class _Keyed(BaseModel):
    """Without a key, all starts of the deployment count together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str | None = None


class Debounce(_Keyed, terms.Debounce):
    @property
    def says_last(self) -> bool:
        return self.keep is Keep.LAST and "keep" in self.model_fields_set


class Batch(_Keyed, terms.Batch):
    pass


class RateLimit(_Keyed, terms.RateLimit):
    pass


class Throttle(_Keyed, terms.Throttle):
    pass


class Singleton(_Keyed, terms.Singleton):
    pass


class Concurrency(_Keyed, terms.Concurrency):
    pass


class FlowControlEntry(BaseModel):
    """As it stands in prefect.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    debounce: Debounce | None = None
    batch: Batch | None = None
    rate_limit: RateLimit | None = None
    throttle: Throttle | None = None
    singleton: Singleton | None = None
    concurrency: Concurrency | None = None
    priority: str | None = None

    @field_validator("priority", mode="before")
    @classmethod
    def _as_text(cls, priority: object) -> object:
        # YAML reads 60 as a number, and a priority is an expression.
        return str(priority) if isinstance(priority, int | float) else priority

    @model_validator(mode="after")
    def _says_something_and_no_contradiction(self) -> Self:
        if not self.keys():
            raise ValueError(f"declare one of {', '.join(LIMITS)}")
        if self.batch is not None and self.debounce is not None and self.debounce.says_last:
            raise ValueError("a batch gives its run all events: leave out `keep: last`, or the batch")
        return self

    def keys(self) -> dict[str, str | None]:
        """Return the key of each limit that is declared, by the limit's name."""
        declared: dict[str, _Keyed | None] = {name: getattr(self, name) for name in LIMITS}
        return {name: limit.key for name, limit in declared.items() if limit is not None}

    def terms(self) -> Terms:
        limits = self.model_dump(exclude={"priority"}, exclude_none=True)
        return Terms.model_validate({name: _without_key(limit) for name, limit in limits.items()})


def _without_key(limit: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in limit.items() if name != "key"}


@dataclass(frozen=True, kw_only=True)
class FlowControl:
    """For the events of one type: the terms, with the expressions that are asked of each event."""

    terms: Terms
    keys: Mapping[str, Expression | None]  # by limit; None: it has no key
    priority: Expression | None

    def held(self, event: Mapping[str, Any]) -> Held:
        """Return what flow control makes of an event with its `user`.

        Raises `DoesNotApply` where a key cannot be told.
        """
        keys = {name: _key(name, expression, event) for name, expression in self.keys.items()}
        gathers = [keys[name] for name in ("debounce", "batch") if name in keys]
        singleton = keys.get("singleton")
        return Held(
            terms=self.terms,
            # Debounce and batch gather together: what differs in either key is another start.
            gather_key=dumps(gathers) if len(gathers) > 1 else next(iter(gathers), None),
            rate_key=keys.get("rate_limit"),
            throttle_key=keys.get("throttle"),
            # Whoever sends events chooses what is in them, but ends nobody else's jobs by that.
            singleton_key=None if singleton is None else dumps([event["user"], singleton]),
            concurrency_key=keys.get("concurrency"),
            priority=0 if self.priority is None else _bounded(self.priority, event),
        )


def read_flow_control(entry: FlowControlEntry, compile: Compile) -> FlowControl:
    """Compile flow control for the events of one type.

    Raises `BadInput` for an expression that does not go with them.
    """
    keys = {name: None if text is None else compile(text) for name, text in entry.keys().items()}
    priority = None if entry.priority is None else compile(entry.priority)
    # Where it is a number, what is wrong with it is told with the file; an expression is bounded with each event.
    if priority is not None and priority.constant:
        _require_priority(priority)
    return FlowControl(terms=entry.terms(), keys=keys, priority=priority)


def _require_priority(priority: Expression) -> None:
    number = _number(priority, {})
    if number is None or abs(number) > MOST_PRIORITY:
        raise BadInput(
            f"A priority is a number of seconds from -{MOST_PRIORITY} to {MOST_PRIORITY}: {priority.text}",
            field="priority",
        )


def _key(limit: str, expression: Expression | None, event: Mapping[str, Any]) -> str:
    if expression is None:
        return ""
    try:
        value = expression.evaluate(event)
    except DoesNotApply as error:
        raise DoesNotApply(f"the key of its {limit} cannot be told: {error}: {expression.text}") from None
    if not isinstance(value, str | int | float):
        raise DoesNotApply(f"the key of its {limit} is no text, number or truth: {expression.text}")
    # As JSON would give it back: what Postgres takes for text. 4 and 4.0 are one number.
    text = str(json.loads(dumps(value))) if isinstance(value, str) else _plain(value)
    if len(text) > LONGEST_KEY:
        raise DoesNotApply(f"the key of its {limit} has more than {LONGEST_KEY} characters: {expression.text}")
    return text


def _plain(value: float) -> str:
    return dumps(int(value) if isinstance(value, float) and value.is_integer() else value)


def _bounded(priority: Expression, event: Mapping[str, Any]) -> int:
    """Return the priority within its bounds. One that cannot be told is none: nothing is lost by beginning in turn."""
    return round(max(-MOST_PRIORITY, min(MOST_PRIORITY, _number(priority, event) or 0)))


def _number(expression: Expression, event: Mapping[str, Any]) -> float | None:
    try:
        value = expression.evaluate(event)
    except DoesNotApply:
        return None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
