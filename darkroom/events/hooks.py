"""Webhooks of others: `hooks` in prefect.yaml says how they are signed, and which of them are which event.

    hooks:
      - name: github                       # they arrive at /v1/hooks/github
        scheme: github
        secret: {env: GITHUB_WEBHOOK_SECRET}
        events:
          - if: "headers['x-github-event'] == 'push'"
            event: code.pushed
            data: {repository: payload.repository.full_name, ref: payload.ref}

Expressions are CEL over `payload` and `headers` (by names in lower case). The first of `events` whose `if` holds is
what a webhook becomes; one that none is for is answered, and passed over. The secret itself never stands in the file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from celpy.adapter import json_to_cel
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from darkroom.errors import BadInput, NeedsHuman
from darkroom.events.conditions import DoesNotApply, evaluated, parsed
from darkroom.events.hook_schemes import HmacEntry, SchemeName, key_of
from darkroom.events.types import NAME, find_type
from darkroom.ledger import OPERATOR
from darkroom.orchestrator.project_file import Watched, project_files, read_section

ROOTS = ("payload", "headers")
# By scheme: what tells one webhook from another, where the declaration does not say.
_IDS: Mapping[SchemeName, str] = {
    SchemeName.STANDARD: "headers['webhook-id']",
    SchemeName.STRIPE: "payload.id",
    SchemeName.GITHUB: "headers['x-github-delivery']",
    SchemeName.SLACK: "payload.event_id",
}
_NAMED = "Write {env: NAME} or {block: name}; the secret itself does not belong in this file."


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class SecretEntry(_Strict):
    """Where a secret is: a variable of the gateway's environment, or a block of Prefect's type Secret."""

    env: Annotated[str, Field(pattern="^[A-Z][A-Z0-9_]{0,99}$")] | None = None
    block: Annotated[str, Field(pattern="^[a-z0-9-]{1,100}$")] | None = None

    @model_validator(mode="after")
    def _is_one_place(self) -> SecretEntry:
        if (self.env is None) == (self.block is None):
            raise ValueError(_NAMED)
        return self


class HookEvent(_Strict):
    """As it stands in prefect.yaml. All but a plain name in `event` are expressions."""

    event: str
    condition: str | None = Field(None, alias="if")
    id: str | None = None
    user: str | None = None  # which end user of the owner it is about
    data: dict[str, str] | str = "payload"  # by field, or as a whole


class HookEntry(_Strict):
    """As it stands in prefect.yaml."""

    name: Annotated[str, Field(pattern="^[a-z][a-z0-9-]{0,62}$")]
    scheme: SchemeName
    hmac: HmacEntry | None = None
    secret: Annotated[tuple[SecretEntry, ...], Field(min_length=1, max_length=2)]  # two while one is being changed
    owner: str = OPERATOR  # for whom its events count; it speaks for all of theirs
    events: Annotated[tuple[HookEvent, ...], Field(min_length=1, max_length=100)]

    @field_validator("secret", mode="before")
    @classmethod
    def _as_list(cls, given: Any) -> Any:
        several = given if isinstance(given, list) else [given]
        if any(isinstance(each, str) for each in several):
            raise ValueError(_NAMED)
        return several

    @model_validator(mode="after")
    def _says_where_the_signature_is(self) -> HookEntry:
        if (self.scheme is SchemeName.HMAC) != (self.hmac is not None):
            raise ValueError("hmac: {header: …} goes with the scheme hmac, and with that alone.")
        return self


class HookFailed(Exception):
    """An expression cannot be evaluated for a webhook, or gives what an event cannot have.

    `place`: of the expression, "hooks.github.events.0.data.ref". `reason`: names it, and repeats no value.
    """

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place, self.reason = place, reason


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """An expression of a hook."""

    place: str
    text: str
    program: Any

    def value(self, scope: Mapping[str, Any]) -> Any:
        try:
            return evaluated(self.program, lambda: scope)
        except DoesNotApply as error:
            raise HookFailed(self.place, f"{error}: {self.text}") from None

    def holds(self, scope: Mapping[str, Any]) -> bool:
        if not isinstance(verdict := self.value(scope), bool):
            raise HookFailed(self.place, f"it gives neither true nor false: {self.text}")
        return verdict

    def words(self, scope: Mapping[str, Any]) -> str:
        """Return its value as text; a number is one, too."""
        value = self.value(scope)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise HookFailed(self.place, f"it gives no text: {self.text}")
        return str(value)


@dataclass(frozen=True, kw_only=True)
class _Mapping:
    """Which event webhooks are for which `condition` holds."""

    condition: _Reading | None
    event: str | _Reading
    id: _Reading
    user: _Reading | None
    data: Mapping[str, _Reading] | _Reading

    def envelope(self, scope: Mapping[str, Any], *, hook: str) -> dict[str, Any]:
        """Return the event as it is sent."""
        name = self.event if isinstance(self.event, str) else self.event.words(scope)
        data = self.data.value(scope) if isinstance(self.data, _Reading) else self._fields(self.data, scope)
        # Of two hooks the same id is not the same event.
        sent = {"name": name, "data": data, "id": f"{hook}:{self.id.words(scope)}"}
        # Null is nobody: a payload may name a user, or none.
        if self.user is None or self.user.value(scope) is None:
            return sent
        return sent | {"user": self.user.words(scope)}

    def _fields(self, data: Mapping[str, _Reading], scope: Mapping[str, Any]) -> dict[str, Any]:
        return {name: each.value(scope) for name, each in data.items()}


@dataclass(frozen=True, kw_only=True)
class Hook:
    """`secrets`: those of the environment; `blocks`: those that Prefect keeps, by name."""

    name: str
    scheme: SchemeName
    plain: HmacEntry | None
    owner: str
    secrets: tuple[str, ...] = field(repr=False)
    blocks: tuple[str, ...]
    events: tuple[_Mapping, ...]

    def envelope(self, payload: Any, headers: Mapping[str, str]) -> dict[str, Any] | None:
        """Return the event that a webhook is, `{name, data, id, user?}`; None for one that none is for.

        Raises `HookFailed`.
        """
        try:
            scope = {"payload": json_to_cel(payload), "headers": json_to_cel(dict(headers))}
        except (ValueError, TypeError, OverflowError):
            # CEL's whole numbers have 64 bits, and JSON's have no bound.
            raise HookFailed(f"hooks.{self.name}", "it has numbers that no expression can read") from None
        for each in self.events:
            if each.condition is None or each.condition.holds(scope):
                return each.envelope(scope, hook=self.name)
        return None


def read_hooks(environment: Mapping[str, str] | None = None) -> dict[str, Hook]:
    """Return the hooks of the project's files, by name: a later file's stands in for an earlier one's.

    Raises `NeedsHuman`, naming the hook, the field and what is wrong there.
    """
    given = os.environ if environment is None else environment
    found: dict[str, Hook] = {}
    for file in project_files():
        entries = read_section(HookEntry, file, "hooks", required=False)
        names = [entry.name for entry in entries]
        for name in names:
            if names.count(name) > 1:
                raise NeedsHuman(f"{file.name}, hooks.{name}: there are two of this name.")
        found |= {entry.name: _hook(entry, given, file.name) for entry in entries}
    return found


def watch_hooks() -> Watched[dict[str, Hook]]:
    return Watched(read_hooks, files=project_files(), what="What webhooks of others become")


def _hook(entry: HookEntry, environment: Mapping[str, str], file: str) -> Hook:
    try:
        return Hook(
            name=entry.name,
            scheme=entry.scheme,
            plain=entry.hmac,
            owner=entry.owner,
            secrets=_secrets(entry, environment),
            blocks=tuple(each.block for each in entry.secret if each.block is not None),
            events=tuple(_mapping(entry, each, f"events.{n}") for n, each in enumerate(entry.events)),
        )
    except BadInput as error:
        raise NeedsHuman(f"{file}, hooks.{entry.name}.{error.field}: {error.message}") from error


def _secrets(entry: HookEntry, environment: Mapping[str, str]) -> tuple[str, ...]:
    found = []
    for n, name in ((n, each.env) for n, each in enumerate(entry.secret) if each.env is not None):
        value = environment.get(name, "")
        try:
            key_of(entry.scheme, value)
        except ValueError as error:
            missing = "it is not set" if not value else str(error)
            raise BadInput(f"{name} in the gateway's environment: {missing}.", field=f"secret.{n}.env") from None
        found.append(value)
    return tuple(found)


def _mapping(entry: HookEntry, event: HookEvent, place: str) -> _Mapping:
    def reading(text: str, name: str) -> _Reading:
        try:
            return _Reading(place=f"hooks.{entry.name}.{place}.{name}", text=text, program=parsed(text, roots=ROOTS)[1])
        except BadInput as error:
            raise BadInput(error.message, field=f"{place}.{name}") from None

    def optional(text: str | None, name: str) -> _Reading | None:
        return None if text is None else reading(text, name)

    data = event.data
    return _Mapping(
        condition=optional(event.condition, "if"),
        # A plain name is held against its type now; what an expression gives, when a webhook comes.
        event=_known(event, place) if _is_name(event.event) else reading(event.event, "event"),
        id=reading(_id(entry, event, place), "id"),
        user=optional(event.user, "user"),
        data=reading(data, "data")
        if isinstance(data, str)
        else {name: reading(text, f"data.{name}") for name, text in data.items()},
    )


def _is_name(text: str) -> bool:
    """Return whether it is an event's name, as in `starts_on`, and no expression."""
    # `payload.kind` has the form of a name, too.
    return re.match(NAME, text) is not None and text.partition(".")[0] not in ROOTS


def _known(event: HookEvent, place: str) -> str:
    """Return the event's name. Raise `BadInput` where it, or a field of its data, is not registered."""
    try:
        fields = find_type(event.event)[1].model_fields
    except BadInput as error:
        raise BadInput(error.message, field=f"{place}.event") from None
    for name in event.data if isinstance(event.data, dict) else ():
        if name not in fields:
            raise BadInput(f"The event's data has no {name!r}, only {', '.join(fields)}.", field=f"{place}.data.{name}")
    missing = [name for name, each in fields.items() if each.is_required() and name not in event.data]
    if isinstance(event.data, dict) and missing:
        raise BadInput(f"The event's data needs {', '.join(missing)}.", field=f"{place}.data")
    return event.event


def _id(entry: HookEntry, event: HookEvent, place: str) -> str:
    known = event.id or _IDS.get(entry.scheme)
    if known is None:
        raise BadInput(
            "Say what tells one webhook from another: without it one that comes twice is two events.",
            field=f"{place}.id",
        )
    return known
