"""The event ingest: what was sent becomes rows, with the jobs it starts and the waits it ends.

Each thing that is sent is accepted or refused for itself, and is a row either way: nothing is dropped. What a refused
one was refused for stands in its row. All rows of one call, what they start and what they wake are one transaction
(`ledger.events.receive`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from darkroom.errors import BadInput
from darkroom.events.conditions import matches
from darkroom.events.triggers import TriggerFile
from darkroom.events.types import LONGEST_NAME, find_type
from darkroom.ledger import Implied, Job, Ledger, NewEvent
from darkroom.ledger.canonical_json import dumps
from darkroom.ledger.news import ENDS

MOST_EVENTS = 10_000  # in one call
LARGEST_DATA = 64 * 1024  # bytes of JSON, of one event
DEEPEST_DATA = 32  # lists and objects in each other; what serializes it gives up at some hundreds
LONGEST_KEY = 255
LONGEST_FIELD = 200  # in a problem: the name of a field that is none may be anything
MOST_VERSIONS = 1000
LONGEST_USER = 200
DEEPEST = 8  # ends of jobs that have started one another
# A clock may be a little fast; a year that is mistyped is not taken for an order of events.
MOST_AHEAD = timedelta(days=1)
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)

# The ids in the ledger of users who are named in events; raises `BadInput` or leaves out who may not be named.
NamedUsers = Callable[[Sequence[str]], Mapping[str, str]]


class Envelope(BaseModel):
    """One event as it is sent."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(
        min_length=1, max_length=LONGEST_NAME, description="What happened; one of those that are registered."
    )
    data: dict[str, Any] = Field({}, description="What the type of the event says. At most 64 KiB.")
    v: int | None = Field(None, ge=1, le=MOST_VERSIONS, description="The version of the data; without it the newest.")
    id: str | None = Field(
        None,
        min_length=1,
        max_length=LONGEST_KEY,
        description="Your own id of it. The same one again is the same event, and nothing is started twice.",
    )
    ts: AwareDatetime | None = Field(None, description="When it happened, with a time zone; without it: now.")
    user: Annotated[str, Field(min_length=1, max_length=LONGEST_USER)] | None = Field(
        None, description="With the key of a service: which of its end users it is about."
    )


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why an event was refused. `code`: `bad_input`, or `forbidden` for another's user."""

    field: str
    message: str
    code: str = "bad_input"

    def document(self, key: str | None) -> dict[str, str]:
        document = {"field": self.field, "message": self.message, "code": self.code}
        return document if key is None else document | {"id": key}


@dataclass(frozen=True, kw_only=True)
class IngestResult:
    """The outcome of one event. `id`: of its row. `new`: not sent before."""

    id: str
    new: bool
    problem: Problem | None = None


@dataclass(frozen=True, kw_only=True)
class Sender:
    """`source`: within it the same `id` is the same event. `user_id`: whom its events are about unless they say.

    `owner_id`: whose jobs an event starts that is about no user. `named`: looks up users that events name; without it
    naming one is refused. `depth`: see `job_ends.py`. `system`: Darkroom itself, which alone tells of ends of jobs.
    """

    source: str
    owner_id: str
    user_id: str | None
    named: NamedUsers | None = None
    depth: int = 0
    system: bool = False

    @classmethod
    def of_job(cls, job: Job) -> Self:
        """Return a job as the sender of events about its user."""
        return cls(source=f"job:{job.id}", owner_id=job.user_id, user_id=job.user_id, depth=job.depth)


class EventIngest:
    def __init__(self, ledger: Ledger, triggers: TriggerFile | None = None) -> None:
        self._ledger = ledger
        self._triggers = triggers or TriggerFile()

    def take(self, sender: Sender, events: Sequence[Any]) -> tuple[list[IngestResult], Implied]:
        """Put events on record, all at once, with what they start and wake. Return one result for each, in order.

        `events`: as they are sent, `{name, data, v?, id?, ts?, user?}`; up to 10,000. Raises `BadInput` for more than
        that.
        """
        if len(events) > MOST_EVENTS:
            raise BadInput(f"{len(events)} events in one call. Send at most {MOST_EVENTS} at once.", field="body")
        now = self._ledger.clock()
        read = [_read(each, now=now) for each in events]
        users = _users(sender, read)
        rows = [self._row(sender, each, users) for each in read]
        received, implied = self._ledger.events.receive(sender.source, rows, matches=matches)
        taken = [
            IngestResult(id=got.id, new=got.new, problem=_problem_of(row))
            for got, row in zip(received, rows, strict=True)
        ]
        return taken, implied

    def refuse(self, sender: Sender, sent: Mapping[str, Any], problem: Problem) -> IngestResult:
        """Put on record what could not be made an event, as much of it as a row can hold, and why."""
        read = _Read(event=_kept(sent), problem=problem)
        rows = [self._row(sender, read, {})]
        (received,), _ = self._ledger.events.receive(sender.source, rows, matches=matches)
        return IngestResult(id=received.id, new=received.new, problem=problem)

    def _row(self, sender: Sender, read: _Read, users: Mapping[str, str]) -> NewEvent:
        event, problem = read.event, read.problem
        user_id = sender.user_id
        if problem is None and event.user is not None:
            user_id = users.get(event.user)
            problem = None if user_id is not None else _not_yours()
        problem = problem or _not_from(sender, event.name)
        row = NewEvent(
            name=event.name,
            user_id=user_id,
            owner_id=user_id or sender.owner_id,
            data=event.data,
            version=event.v,
            depth=sender.depth,
            # Not the ends of jobs: Prefect has those of the runs.
            in_feed=not sender.system,
            key=event.id,
            occurred_at=event.ts,
        )
        if problem is not None:
            # Its id stays free: put right, it can be sent with the same one.
            return replace(row, key=None, problem=problem.document(event.id))
        scope = {"name": event.name, "v": event.v, "user": row.owner_id, "data": event.data}
        return replace(
            row,
            starts=[trigger.start(scope) for trigger in self._triggers.of(event.name)],
            cancels=[each.cancel(scope) for each in self._triggers.cancels_of(event.name)],
        )


@dataclass(frozen=True, kw_only=True)
class _Read:
    """One that was sent, with its data as its model writes it; or as much of it as can be kept, and what is wrong."""

    event: Envelope
    problem: Problem | None = None


def _read(sent: Any, *, now: datetime) -> _Read:
    try:
        event = Envelope.model_validate(sent)
    except ValidationError as error:
        return _Read(event=_kept(sent), problem=_wrong(error))
    if (problem := _unfit(event, now=now)) is not None:
        return _Read(event=_kept(sent), problem=problem)
    try:
        version, model = find_type(event.name, event.v)
        data = model.model_validate(event.data).model_dump(mode="json")
    except BadInput as error:
        return _Read(event=event, problem=Problem(field=error.field, message=error.message))
    except ValidationError as error:
        return _Read(event=event, problem=_wrong(error, within="data"))
    return _Read(event=event.model_copy(update={"v": version, "data": data}))


def _unfit(event: Envelope, *, now: datetime) -> Problem | None:
    for field, text in (("name", event.name), ("id", event.id), ("user", event.user)):
        if text is not None and not (text.isprintable() and text.strip()):
            return Problem(field=field, message="It is not printable. Use letters, digits and the like.")
    if not _is_shallow(event.data):
        return Problem(field="data", message=f"It is more than {DEEPEST_DATA} levels deep. Send it flatter.")
    # After the depth: what writes it gives up at some hundreds of levels.
    if len(dumps(event.data)) > LARGEST_DATA:
        return Problem(field="data", message=f"It is larger than {LARGEST_DATA // 1024} KiB. Send where to find it.")
    if event.ts is not None and not EARLIEST <= event.ts <= now + MOST_AHEAD:
        return Problem(field="ts", message="It lies in the future, or before 1970. Send when the event happened.")
    return None


def _is_shallow(value: Any, *, levels: int = DEEPEST_DATA) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return not inside or (levels > 0 and all(_is_shallow(each, levels=levels - 1) for each in inside))


def _kept(sent: Any) -> Envelope:
    """Keep as much as a row can hold of what is no envelope."""
    given = sent if isinstance(sent, Mapping) else {}
    name, key, data = given.get("name"), given.get("id"), given.get("data")
    # A refused one is a row as well, so it has the bounds of any.
    fits = isinstance(data, dict) and _is_shallow(data) and len(dumps(data)) <= LARGEST_DATA
    return Envelope.model_construct(
        name=name[:LONGEST_NAME] if isinstance(name, str) else "",
        data=data if fits and isinstance(data, dict) else {},
        id=key[:LONGEST_KEY] if isinstance(key, str) else None,
    )


def _wrong(error: ValidationError, *, within: str = "") -> Problem:
    """Describe what is wrong by field, and without the value: it may be anybody's address."""
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join([*([within] if within else []), *map(str, first["loc"])]) or "body"
    field = field[:LONGEST_FIELD]
    if first["type"] in ("model_type", "dict_type"):
        return Problem(field=field, message="It must be one JSON object.")
    return Problem(field=field, message=f"{first['msg']}.")


def _users(sender: Sender, read: Sequence[_Read]) -> Mapping[str, str]:
    names = sorted({each.event.user for each in read if each.problem is None and each.event.user is not None})
    return sender.named(names) if names and sender.named is not None else {}


def _not_yours() -> Problem:
    return Problem(
        field="user",
        message="This key sends events about its own user only. Leave `user` out, or use the key of a service.",
        code="forbidden",
    )


def _not_from(sender: Sender, name: str) -> Problem | None:
    # Whoever could send these would start flows on failures that never were.
    if name in ENDS and not sender.system:
        return Problem(field="name", message="Darkroom itself sends this event. Choose another name for yours.")
    if sender.system and sender.depth > DEEPEST:
        return Problem(
            field="name",
            message=f"Ends of jobs have started one another {DEEPEST} times: this looks like a loop. "
            "Narrow the condition of `starts_on`.",
            code="loop",
        )
    return None


def _problem_of(row: NewEvent) -> Problem | None:
    found = row.problem
    return None if found is None else Problem(field=found["field"], message=found["message"], code=found["code"])
