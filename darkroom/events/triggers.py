"""Which deployments an event starts: `starts_on` beside a deployment in prefect.yaml.

    starts_on:
      - event: user.signed_up
        if: "event.data.plan != 'free'"
        parameters: {account: "event.data.account"}

Without `parameters` the event's data are the run's parameters. Where flow control gives a run several events, these are
its `events`, a list in the order in which they came (`flow_control.py`). What is wrong in the file is told when it is
read, by deployment and text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from darkroom.errors import BadInput, NeedsHuman
from darkroom.events.cancels import Cancel, CancelEntry, read_cancel
from darkroom.events.conditions import DoesNotApply, Expression, compiled
from darkroom.events.flow_control import FlowControl, FlowControlEntry, read_flow_control
from darkroom.events.types import EventData, find_type
from darkroom.ledger import EventStart
from darkroom.orchestrator.project_file import Entry, Watched, project_files, read_entries

SYSTEM = "system"  # the tag of deployments whose runs are not made for jobs


class TriggerEntry(BaseModel):
    """As it stands in prefect.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    event: str
    v: int | None = None  # only of that version
    condition: str | None = Field(None, alias="if")
    parameters: dict[str, str] | None = None  # by name: an expression over `event`


@dataclass(frozen=True, kw_only=True)
class Trigger:
    deployment: str  # "onboard-user/on-demand"
    event: str
    v: int | None
    condition: Expression | None
    parameters: Mapping[str, Expression] | None
    control: FlowControl | None = None

    def start(self, event: Mapping[str, Any]) -> EventStart:
        """Return what the trigger starts for this event, `{name, v, user, data}`, or why it does not."""
        if (reason := self._against(event)) is not None:
            return EventStart(deployment=self.deployment, reason=reason)
        try:
            parameters = self._parameters(event)
        except DoesNotApply as error:
            return EventStart(deployment=self.deployment, reason=f"its parameters cannot be made: {error}")
        try:
            held = None if self.control is None else self.control.held(event)
        except DoesNotApply as error:
            return EventStart(deployment=self.deployment, reason=str(error))
        return EventStart(deployment=self.deployment, parameters=parameters, held=held)

    def _against(self, event: Mapping[str, Any]) -> str | None:
        if self.v is not None and self.v != event["v"]:
            return f"it starts for version {self.v} of the event, and this is version {event['v']}"
        verdict = True if self.condition is None else self.condition.holds(event)
        if verdict is True:
            return None
        assert self.condition is not None
        return verdict if isinstance(verdict, str) else f"its condition does not hold: {self.condition.text}"

    def _parameters(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.parameters is None:
            return dict(event["data"])
        return {name: expression.evaluate(event) for name, expression in self.parameters.items()}


class _Deployment(Entry):
    starts_on: tuple[TriggerEntry, ...] = ()
    flow_control: FlowControlEntry | None = None
    cancel_on: tuple[CancelEntry, ...] = ()


def read_triggers(file: Path | None = None) -> list[Trigger]:
    """Return what events start, in the file's order; of the project's files where none is named.

    Raises `NeedsHuman`, naming the deployment and what is wrong there.
    """
    deployments = read_entries(_Deployment, [file] if file else None)
    for deployment in deployments:
        _require_starts(deployment)
    return [_trigger(deployment, entry) for deployment in deployments for entry in deployment.starts_on]


def read_cancels() -> list[Cancel]:
    """Return what events cancel, in the files' order. Raises as `read_triggers`."""
    return [_cancel(each.full_name, entry) for each in read_entries(_Deployment, None) for entry in each.cancel_on]


def _cancel(deployment: str, entry: CancelEntry) -> Cancel:
    try:
        model = find_type(entry.event)[1]
        return read_cancel(entry, deployment, lambda text: _reading(model, text))
    except BadInput as error:
        raise NeedsHuman(f"prefect.yaml, {deployment}, cancel_on {entry.event}: {error.message}") from error


def _require_starts(deployment: _Deployment) -> None:
    """Raise `NeedsHuman` for flow control without `starts_on`."""
    # A declaration that does nothing is meant for something else.
    if deployment.flow_control is not None and not deployment.starts_on:
        raise NeedsHuman(
            f"prefect.yaml, {deployment.full_name}, flow_control: it holds what events start; there is no starts_on."
        )


def _trigger(deployment: _Deployment, entry: TriggerEntry) -> Trigger:
    name = deployment.full_name
    try:
        if SYSTEM in deployment.tags:
            raise BadInput(f"A deployment with the tag {SYSTEM!r} cannot be started by events.")
        model = find_type(entry.event, entry.v)[1]
        parameters = {each: _reading(model, text) for each, text in (entry.parameters or {}).items()}
        return Trigger(
            deployment=name,
            event=entry.event,
            v=entry.v,
            condition=None if entry.condition is None else _reading(model, entry.condition),
            parameters=None if entry.parameters is None else parameters,
            control=_control(deployment, model),
        )
    except BadInput as error:
        raise NeedsHuman(f"prefect.yaml, {name}, starts_on {entry.event}: {error.message}") from error


def _control(deployment: _Deployment, model: type[EventData]) -> FlowControl | None:
    entry = deployment.flow_control
    return None if entry is None else read_flow_control(entry, lambda text: _reading(model, text))


def _reading(model: type[EventData], text: str) -> Expression:
    """Compile an expression. Raises `BadInput` for a field that the event's data never has: it is misspelt."""
    expression = compiled(text)
    for field in expression.fields or ():
        if field not in model.model_fields:
            known = ", ".join(model.model_fields)
            raise BadInput(f"The event's data has no {field!r}, only {known}: {text}", field="if")
    return expression


class TriggerFile:
    """The triggers and cancels as the project's files say now."""

    def __init__(self) -> None:
        # Looked at with each call, and read again when a file has changed. One that is broken then changes nothing.
        self._declared = Watched(
            lambda: (read_triggers(), read_cancels()), files=project_files(), what="What events start and cancel"
        )

    def cancels_of(self, event: str) -> Sequence[Cancel]:
        return [cancel for cancel in self._declared.now()[1] if cancel.event == event]

    def of(self, event: str) -> Sequence[Trigger]:
        return [trigger for trigger in self.all() if trigger.event == event]

    def all(self) -> Sequence[Trigger]:
        return self._declared.now()[0]
