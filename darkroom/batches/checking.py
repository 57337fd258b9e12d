"""Rows, completed by what the batch says for all of them, and checked in both passes before anything is paid."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from darkroom.batches.passes import AS_USUAL, Pass, Passes, draft_of, final_of
from darkroom.batches.pictures import ARGUMENTS, NAMED, Given, Picture, as_picture, completed, model_of, read_cells
from darkroom.batches.problems import Problem, described, manifest_error
from darkroom.batches.reading import Raw, Source, Unreadable, read_rows
from darkroom.errors import BadInput
from darkroom.ledger import RequestSpec, content_hash

LONGEST_ID = 200
MOST_OF_A_ROW = 10  # problems that are looked for in one row
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

# From what a picture is asked for with to its first paid call, and to what it should cost with all that comes after, in
# USD. Raises BadInput(field).
Check = Callable[[Picture], tuple[RequestSpec, Decimal]]


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a pass asks for: the picture, the first call it takes, and what all of it should cost in USD."""

    picture: Picture
    first: RequestSpec
    estimate_usd: Decimal


@dataclass(frozen=True, kw_only=True)
class Row:
    """`n`: its place, from 0. `id`: the user's own. `picture`: as it was given, with the batch's defaults."""

    n: int
    line: int | None  # of the text it came in
    id: str | None
    picture: Picture
    draft: Checked
    final: Checked

    @property
    def number(self) -> int:
        """Return the row's number as a person counts, from 1, and as on the contact sheet."""
        return self.n + 1

    @property
    def draft_is_final(self) -> bool:
        """Return whether both passes ask for the same: then the draft need not be made again."""
        return self.draft is self.final


@dataclass(frozen=True, kw_only=True)
class Manifest:
    rows: tuple[Row, ...]


def read_manifest(
    source: Source, *, check: Check, defaults: Mapping[str, Any] | None = None, passes: Passes = AS_USUAL
) -> Manifest:
    """Read a manifest, complete its rows and check them in both passes.

    `source`: CSV with a header or JSON lines, as text or UTF-8, or a list of objects. `defaults`: for all rows.

    Raises ManifestError, which lists all that is wrong with the rows, and BadInput(field) for `defaults` and `passes`.
    """
    reading = _Reading(check, as_picture(defaults or {}, prefix="defaults."), passes)
    try:
        rows = reading.all(source)
    except Unreadable as error:
        reading.problems.append(error.problem)
    if reading.problems:
        reading.problems.sort(key=lambda problem: problem.row or 0)
        raise manifest_error(reading.problems, given=reading.given)
    return Manifest(rows=tuple(rows))


def duplicates(rows: Iterable[Row]) -> dict[int, int]:
    """Map each row that asks for the same as one before it, in both passes, to the first of them, by place."""
    first: dict[str, int] = {}
    found: dict[int, int] = {}
    for row in rows:
        content = content_hash(*_content(row.draft), *_content(row.final))
        if first.setdefault(content, row.n) != row.n:
            found[row.n] = first[content]
    return found


def _content(asked: Checked) -> tuple[Mapping[str, Any] | str, ...]:
    """Return what a pass asks for, as the model takes it, so that 5 and 5.0 are the same."""
    return asked.first.endpoint, asked.first.input, {"post": asked.picture.get("post")}


class _Reading:
    """One manifest on its way: what is wrong so far, and what was given in which column."""

    def __init__(self, check: Check, defaults: Given, passes: Passes) -> None:
        self.problems: list[Problem] = []
        self.given = Counter[str]()
        self._check = check
        self._defaults = defaults
        self._passes = passes
        self._of_draft = _columns(passes.draft, prefix="draft.")
        self._of_final = _columns(passes.final, prefix="final.")
        self._ids: dict[str, int] = {}

    def all(self, source: Source) -> list[Row]:
        columns = () if "prompt" in self._defaults.columns else ("prompt",)
        raws = list(read_rows(source, self.problems, columns=columns))  # too many of them are not checked at all
        rows = [row for raw in raws if (row := self._row(raw)) is not None]
        if not rows and not self.problems:
            remedy = "Send at least one, e.g. a line with a prompt."
            self.problems.append(Problem(row=None, column=None, problem="it has no rows", remedy=remedy))
        return rows

    def _row(self, raw: Raw) -> Row | None:
        cells = dict(raw.cells)
        id = self._id(raw, cells.pop("id", None))
        if raw.text:
            model = str(cells.get("model", model_of(self._defaults.picture))).strip()
            cells = read_cells(cells, model=model, decimal_comma=raw.decimal_comma)
        try:
            given = completed(as_picture(cells), self._defaults)
        except BadInput as error:
            self._note(raw, error.field, error.field, error.message)
            return None
        self.given.update((*given.columns.values(), *self._of_draft.values(), *self._of_final.values()))
        return self._checked(raw, id, given)

    def _id(self, raw: Raw, id: object) -> str | None:
        if id is None:
            return None
        self.given["id"] += 1
        name = str(id).strip() if isinstance(id, str | int) and not isinstance(id, bool) else ""
        if not name or len(name) > LONGEST_ID or _CONTROL.search(name):
            self._note(raw, "id", "id", "is no id")
        elif (first := self._ids.setdefault(name, raw.number)) != raw.number:
            self._note(raw, "id", "id", f"is the id of row {first} already. Give each row its own.")
        return name

    def _checked(self, raw: Raw, id: str | None, given: Given) -> Row | None:
        picture, columns = given.picture, given.columns
        final, draft = final_of(picture, self._passes), draft_of(picture, self._passes)
        if not _keeps(final, picture) and self._ask(raw, picture, columns) is None:
            return None  # also what a pass will overrule has to make sense
        last = self._ask(raw, final, {**columns, **self._of_final})
        if last is None:
            return None
        first = last
        if draft != final:
            asked = self._ask(raw, draft, {**columns, **self._of_draft}, of=f"as a draft of {model_of(draft)}: ")
            if asked is None:
                return None
            first = asked
        return Row(n=raw.number - 1, line=raw.line, id=id, picture=picture, draft=first, final=last)

    def _ask(self, raw: Raw, picture: Picture, columns: Mapping[str, str], *, of: str = "") -> Checked | None:
        """Check the picture, and once more without each thing that is wrong, to hear of the others.

        Return None if anything is wrong.
        """
        wanted: Picture | None = picture
        for _ in range(MOST_OF_A_ROW):
            if wanted is None:
                break
            try:
                first, estimate_usd = self._check(wanted)
            except BadInput as error:
                name = error.field.removeprefix(f"{ARGUMENTS}.").partition(".")[0]
                self._note(raw, columns.get(name, name), error.field, error.message, of=of)
                wanted = _without(wanted, name)
            else:
                return Checked(picture=picture, first=first, estimate_usd=estimate_usd) if wanted is picture else None
        return None

    def _note(self, raw: Raw, column: str, field: str, message: str, *, of: str = "") -> None:
        problem, remedy = described(message, field=field, column=column)
        self.problems.append(
            Problem(row=raw.number, line=raw.line, column=column or None, problem=f"{of}{problem}", remedy=remedy)
        )


def _columns(order: Pass | None, *, prefix: str) -> Mapping[str, str]:
    """Map what a pass changes to the columns where it was given."""
    if order is None:
        return {}
    columns = as_picture(order.arguments, prefix=f"{prefix}{ARGUMENTS}.").columns
    return {"model": f"{prefix}model", **columns} if order.model else columns


def _without(picture: Picture, name: str) -> Picture | None:
    """Return the picture without that field, to check the others; None where nothing else can be said of it.

    A prompt is not left out, but replaced.
    """
    if name == "prompt":
        return None if picture.get(name) == "x" else {**picture, name: "x"}
    arguments = {key: value for key, value in picture.get(ARGUMENTS, {}).items() if key != name}
    rest = {key: value for key, value in picture.items() if key not in (name, ARGUMENTS)}
    found = {**rest, ARGUMENTS: arguments} if arguments else rest
    return None if name == "model" or found == picture else found


def _keeps(final: Picture, picture: Picture) -> bool:
    """Return whether nothing of the picture was overruled."""
    kept = {name for name in NAMED if final.get(name) == picture.get(name)}
    arguments = final.get(ARGUMENTS, {})
    return len(kept) == len(NAMED) and all(
        name in arguments and arguments[name] == value for name, value in picture.get(ARGUMENTS, {}).items()
    )
