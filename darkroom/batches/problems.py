"""What is wrong with a manifest: all of it at once, as nobody wants to send a thousand rows once for each mistake.

Problems name row, line and column. They never repeat a cell that may be a prompt: lines are shown with “…” for texts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from darkroom.errors import BadInput

MOST_LISTED = 100
MOST_IN_MESSAGE = 3
MISSING = "Field required"  # as pydantic says it
_STOP = re.compile(r"(?<!e\.g)[.;:] ")  # messages say what is wrong and then, after a stop, what to do
# For messages without a second half.
_REMEDIES: Mapping[str, str] = {
    "id": "Give each row a name of its own, of at most 200 characters, or none.",
    "prompt": "Write what the picture shows, in 1 to 4,000 characters.",
    "model": "Name a model of Darkroom's, e.g. fal-ai/flux/dev.",
    "image_size": "Name a size, e.g. landscape_4_3, or write width and height, e.g. 1024x768.",
    "seed": "Write a whole number from 0, or leave it out.",
    "num_images": "Write 1 to 4, or leave it out.",
}
# For those of pydantic's, which have none.
_BY_MESSAGE = (
    ("valid boolean", "Write true or false, or leave it out."),
    ("valid integer", "Write a whole number, e.g. 7, or leave it out."),
    ("valid number", "Write a number, e.g. 3.5, or leave it out."),
    ("Input should be '", "Write one of these as it stands here, or leave it out."),
)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """`row`: from 1, as on the contact sheet; None: of the manifest as a whole. `line`: of its text, if it is text.

    `rows`: how many have it, the first of which is `row`, where it is the column's rather than the row's.
    """

    row: int | None
    line: int | None = None
    column: str | None
    problem: str
    remedy: str
    rows: int = 1

    def document(self) -> dict[str, Any]:
        return {
            "row": self.row,
            "line": self.line,
            "column": self.column,
            "problem": self.problem,
            "remedy": self.remedy,
            "rows": self.rows,
        }

    def __str__(self) -> str:
        place = [f"row {self.row}"] if self.row else []
        column = [self.column] if self.column else []
        more = f" (and in {self.rows - 1:,} more)" if self.rows > 1 else ""
        whole = f"line {self.line}" if self.line else "manifest"
        return f"{', '.join(place + column) or whole}{more}: {self.problem}"


class ManifestError(BadInput):
    """The manifest is not as it must be: nothing was started. `problems` lists why; correct them and send it again."""

    code = "bad_manifest"

    def __init__(
        self, message: str = "", *, problems: Sequence[Problem] = (), more: int = 0, field: str = "manifest"
    ) -> None:
        super().__init__(message or _message(problems, more), field=field)
        self.problems = tuple(problems)
        self.more = more  # that are not listed

    def document(self) -> dict[str, Any]:
        return super().document() | {
            "problems": [problem.document() for problem in self.problems],
            "more_problems": self.more,
        }


def manifest_error(problems: Sequence[Problem], *, given: Mapping[str, int]) -> ManifestError:
    """Build the error that lists the problems. `given`: how many rows have a value in each column."""
    found = _of_columns(problems, given) if len(problems) > MOST_LISTED else list(problems)
    return ManifestError(problems=found[:MOST_LISTED], more=max(0, len(found) - MOST_LISTED))


def described(message: str, *, field: str, column: str) -> tuple[str, str]:
    """Return what is wrong, and the remedy, from the message of a BadInput on that field."""
    said = message.removeprefix(f"{field}: ").removeprefix(f"{field.rpartition('.')[2]}: ")
    problem, *remedy = _STOP.split(said, maxsplit=1)
    if remedy:
        return problem, _sentence(remedy[0])
    if problem == MISSING and column not in _REMEDIES:
        return problem, "Add it."
    usual = next((remedy for words, remedy in _BY_MESSAGE if words in problem), "Correct it, or leave it out.")
    return problem, _REMEDIES.get(column.removeprefix("defaults."), usual)


def _of_columns(problems: Iterable[Problem], given: Mapping[str, int]) -> list[Problem]:
    """Merge what is wrong with each row that has the column into one problem of the column."""
    # Ten thousand rows need not say one thing.
    alike = Counter((each.column, each.problem) for each in problems if each.row)
    found, told = list[Problem](), set[tuple[str | None, str]]()
    for each in problems:
        key = (each.column, each.problem)
        count = alike[key]
        # What all rows with the column have in common is wrong with the column; what only some have is theirs.
        if each.row is None or count == 1 or each.column is None or count != given.get(each.column):
            found.append(each)
        elif key not in told:
            told.add(key)
            found.append(replace(each, rows=count))
    return found


def _message(problems: Sequence[Problem], more: int) -> str:
    count = len(problems) + more
    if not count:
        return ""
    listed = "; ".join(str(problem) for problem in problems[:MOST_IN_MESSAGE])
    rest = f"; and {count - MOST_IN_MESSAGE:,} more" if count > MOST_IN_MESSAGE else ""
    remedy = ""
    if count == 1:
        line = f" (line {problems[0].line})" if problems[0].row and problems[0].line else ""
        remedy = f"{line}. {problems[0].remedy}"
    return f"the manifest has {count:,} problem{'' if count == 1 else 's'}: {listed}{rest}{remedy}"


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", "?")) else ".")
