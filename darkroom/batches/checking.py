"""Rows, completed by what the batch says for all of them, and checked in both passes before anything is paid."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from darkroom.batches.cells import is_sheet_error, looks_changed
from darkroom.batches.names import ID, named, seen
from darkroom.batches.notes import Notes
from darkroom.batches.passes import AS_USUAL, Pass, Passes, draft_of, final_of
from darkroom.batches.pictures import (
    ARGUMENTS,
    NAMED,
    Given,
    Picture,
    as_picture,
    completed,
    known_columns,
    model_of,
    read_cells,
    required_by,
)
from darkroom.batches.problems import Problem, described, manifest_error
from darkroom.batches.raw import Findings, Raw, Source, Unreadable
from darkroom.batches.reading import read_rows
from darkroom.errors import BadInput
from darkroom.ledger import RequestSpec, content_hash
from darkroom.models import NoPrice, WrongInput

LONGEST_ID = 200
MOST_OF_A_ROW = 10  # problems that are looked for in one row
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

# From what is asked for to its first paid call, and to what it should cost with all that comes after, in USD. Raises
# BadInput(field).
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
    """`warnings`: in sentences, how what is not usual was understood. None repeats a prompt."""

    rows: tuple[Row, ...]
    warnings: tuple[str, ...] = ()


def read_manifest(
    source: Source,
    *,
    check: Check,
    defaults: Mapping[str, Any] | None = None,
    passes: Passes = AS_USUAL,
    charset: str | None = None,
) -> Manifest:
    """Read a manifest, complete its rows and check them in both passes.

    `source`: CSV with a header or JSON, as text or bytes, or a list of objects. `defaults`: for all rows. `charset`: of
    bytes, as their sender declared it.

    Raises ManifestError, which lists all that is wrong with the rows, and BadInput(field) for `defaults` and `passes`.
    """
    reading = _Reading(check, _defaults(defaults or {}), passes)
    try:
        rows = reading.all(source, charset)
    except Unreadable as error:
        reading.problems.append(error.problem)
    if reading.problems:
        # What the reader found of single rows came first, before any row was checked.
        reading.problems.sort(key=lambda problem: problem.row or 0)
        raise manifest_error(reading.problems, given=reading.given)
    return Manifest(rows=tuple(rows), warnings=reading.notes.sentences())


def _defaults(given: Mapping[str, Any]) -> Given:
    """Return what is the same for all rows, read as a row in JSON is. Raises BadInput."""
    known, cells = known_columns(), dict[str, Any]()
    for name, value in named(given, known):
        if name in cells:
            raise BadInput("is given twice, under names that mean the same. Leave one of them out.", field="defaults")
        cells[name] = value
    raw = Raw(number=0, line=None, cells=cells, text=False)
    read = read_cells(raw, cells, usual_model=model_of({}))
    for column, error in read.refused.items():
        raise BadInput(error.message, field=f"defaults.{column}")
    return as_picture(read.given, prefix="defaults.")


def without_defaults(pictures: Iterable[Picture], defaults: Mapping[str, Any]) -> list[Picture]:
    """Return what rows say themselves, so that other defaults can take the place of those they were completed with.

    What a row says as the defaults do is taken for theirs.
    """
    usual = _defaults(defaults).picture
    return [_own(each, usual) for each in pictures]


def _own(picture: Picture, usual: Picture) -> Picture:
    arguments = _other_than(usual.get(ARGUMENTS, {}), picture.get(ARGUMENTS, {}))
    own = {name: value for name, value in _other_than(usual, picture).items() if name != ARGUMENTS}
    return own | ({ARGUMENTS: arguments} if arguments else {})


def _other_than(usual: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in usual or usual[name] != value}


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
        self.notes = Notes()
        self.problems: list[Problem] = []
        self.given = Counter[str]()
        self._check = check
        self._defaults = defaults
        self._passes = passes
        self._of_draft = _columns(passes.draft, prefix="draft.")
        self._of_final = _columns(passes.final, prefix="final.")
        self._ids: dict[str, tuple[int, str]] = {}
        self._like: dict[str, int] = {}  # the first row of ids that are the same but for case and width

    def all(self, source: Source, charset: str | None) -> list[Row]:
        missing = [name for name in required_by(model_of(self._defaults.picture)) if name not in self._defaults.columns]
        required = [*missing, "model"] if missing else []  # each row may name another model, which needs other fields
        found = Findings(problems=self.problems, notes=self.notes.of_all, required=required, known=known_columns())
        raws = list(read_rows(source, found, charset=charset))  # too many of them are not checked at all
        rows = [row for raw in raws if (row := self._row(raw)) is not None]
        if not rows and not self.problems:
            remedy = "Send at least one, e.g. a line with a prompt."
            self.problems.append(Problem(row=None, column=None, problem="it has no rows", remedy=remedy))
        return rows

    def _row(self, raw: Raw) -> Row | None:
        given_cells = dict(raw.cells)
        id = self._id(raw, given_cells.pop(ID, None))
        cells = read_cells(raw, given_cells, usual_model=model_of(self._defaults.picture))
        for column, note in cells.notes.items():
            self.notes.add(raw.number, column, note)
        for column, error in cells.refused.items():
            self._note(raw, column, column, error.message)
        try:
            given = completed(as_picture(cells.given), self._defaults)
        except BadInput as error:
            self._note(raw, error.field, error.field, error.message)
            return None
        # So that a problem of all rows that have a column can be told once, of the column.
        self.given.update((*given.columns.values(), *cells.refused, *self._of_draft.values(), *self._of_final.values()))
        # Also a row that is refused already: all that is wrong is told at once.
        row = self._checked(raw, id, given, refused=cells.refused)
        return None if cells.refused else row

    def _id(self, raw: Raw, id: object) -> str | None:
        if id is None:
            return None
        self.given[ID] += 1
        name = _id_of(id)
        if not name or len(name) > LONGEST_ID or _CONTROL.search(name):
            self._note(raw, ID, ID, "is no id")
            return name
        if raw.text and is_sheet_error(name):
            self._note(raw, ID, ID, f"is {name}, as a spreadsheet shows an error. Give each row an id of its own.")
            return name
        if raw.text and looks_changed(name):
            self.notes.add(raw.number, ID, "looks as if a spreadsheet had made a date or a number of it")
        first, written = self._ids.setdefault(name, (raw.number, str(id)))
        if first != raw.number:
            apart = "" if written == str(id) else ", but for blanks and characters that nobody sees"
            self._note(raw, ID, ID, f"is the id of row {first} already{apart}. Give each row its own.")
        elif (like := self._like.setdefault(unicodedata.normalize("NFKC", name).casefold(), first)) != first:
            self.notes.add(raw.number, ID, f"is that of row {like} but for upper and lower case, and taken for another")
        return name

    def _checked(self, raw: Raw, id: str | None, given: Given, *, refused: Mapping[str, BadInput]) -> Row | None:
        if "prompt" in refused:
            return None  # it would be missed
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
        told = set[str]()  # a field that was left out for this would be missed next
        for _ in range(MOST_OF_A_ROW):
            if wanted is None:
                break
            try:
                first, estimate_usd = self._check(wanted)
            except BadInput as error:
                for field, message in _told(error, model_of(wanted)):
                    name = field.removeprefix(f"{ARGUMENTS}.").partition(".")[0]
                    if name not in told:
                        self._note(raw, columns.get(name, name), field, message, of=of)
                    told.add(name)
                    wanted = None if wanted is None else _without(wanted, name)
            else:
                return Checked(picture=picture, first=first, estimate_usd=estimate_usd) if wanted is picture else None
        return None

    def _note(self, raw: Raw, column: str, field: str, message: str, *, of: str = "") -> None:
        problem, remedy = described(message, field=field, column=column)
        self.problems.append(
            Problem(row=raw.number, line=raw.line, column=column or None, problem=f"{of}{problem}", remedy=remedy)
        )


def _told(error: BadInput, model: str) -> list[tuple[str, str]]:
    """Return each thing that is wrong, by its field; a schema tells all of them at once."""
    if isinstance(error, WrongInput):
        return [(each.field, f"{model} {each.problem}; {each.remedy}") for each in error.problems]
    if isinstance(error, NoPrice):  # what the batch may cost says nothing of one row
        return [(error.field, f"{model} has no price; have an operator set one: darkroom model price")]
    return [(error.field, error.message)]


def _id_of(given: object) -> str:
    """Return the id as text; empty for what is none."""
    # pandas writes 7.0 for 7 where some rows have no id.
    if isinstance(given, float) and given.is_integer():
        return str(int(given))
    return seen(str(given)) if isinstance(given, str | int) and not isinstance(given, bool) else ""


def _columns(order: Pass | None, *, prefix: str) -> Mapping[str, str]:
    """Map what a pass changes to the columns where it was given."""
    if order is None:
        return {}
    columns = as_picture(order.arguments, prefix=f"{prefix}{ARGUMENTS}.").columns
    return {"model": f"{prefix}model", **columns} if order.model else columns


def _without(picture: Picture, name: str) -> Picture | None:
    """Return the picture without that field, to check the others; None where nothing else can be said of it."""
    if name == "prompt":  # without one the next check would only say that it is missing
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
