"""Which jobs an event cancels: `cancel_on` beside a deployment in prefect.yaml.

    cancel_on:
      - event: order.withdrawn
        if: "event.data.reason != 'duplicate'"
        match: {order: event.data.order}

It cancels those jobs of the deployment, of the user whom the event is about, that have not ended and whose parameters
are those of `match`, by name; without `match` all of them. Pending runs with these parameters are dropped when their
turn comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from darkroom.events.conditions import DoesNotApply, Expression
from darkroom.ledger import EventCancel

Compile = Callable[[str], Expression]  # raises `BadInput` for what is no CEL, or reads what the event never has


class CancelEntry(BaseModel):
    """As it stands in prefect.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    event: str
    condition: str | None = Field(None, alias="if")
    match: dict[str, str] = {}  # by parameter: an expression over `event`


@dataclass(frozen=True, kw_only=True)
class Cancel:
    deployment: str
    event: str
    condition: Expression | None
    match: Mapping[str, Expression]

    def cancel(self, event: Mapping[str, Any]) -> EventCancel:
        """Return which jobs this event cancels, `{name, v, user, data}`, or why none."""
        verdict = True if self.condition is None else self.condition.holds(event)
        if verdict is not True:
            assert self.condition is not None
            reason = verdict if isinstance(verdict, str) else f"its condition does not hold: {self.condition.text}"
            return EventCancel(deployment=self.deployment, reason=reason)
        try:
            match = {name: expression.evaluate(event) for name, expression in self.match.items()}
        except DoesNotApply as error:
            return EventCancel(deployment=self.deployment, reason=f"what it matches cannot be told: {error}")
        return EventCancel(deployment=self.deployment, match=match)


def read_cancel(entry: CancelEntry, deployment: str, compile: Compile) -> Cancel:
    """Compile an entry. Raises `BadInput` for an expression that does not go with its event."""
    return Cancel(
        deployment=deployment,
        event=entry.event,
        condition=None if entry.condition is None else compile(entry.condition),
        match={name: compile(text) for name, text in entry.match.items()},
    )
