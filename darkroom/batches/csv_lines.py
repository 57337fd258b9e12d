"""The lines of a CSV before they are cells: what is no row of it, and what it is instead of CSV.

Comments above the header, the rules that databases draw, and quotes around whole lines are of the program that wrote
the file, and not of what it says.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence

from darkroom.batches.names import seen
from darkroom.batches.raw import Findings

# No two parts of a pattern that stand side by side take the same sign: a long line would be tried in every split of it.
_RULE = re.compile(r"[\s|+:=-]*")  # of psql, MySQL and Markdown, with three strokes in it
# psql's “(2 rows)”, and the “\.” at the end of what COPY writes.
_END = re.compile(r"\s*\([0-9]+ rows?\)\s*|\s*\\\.\s*")
_WHOLE = re.compile(r'"((?:[^"\r\n]|"")*)"[,;\t]*(?:[^\S\t]\s*)?')
_OTHERS: Sequence[tuple[re.Pattern[str], str]] = (
    (re.compile(r"\s*<[!?a-zA-Z]"), "it is a web page or XML"),
    (re.compile(r"\s*```"), "it stands in the fences of Markdown"),
    (re.compile(r"\s*(?://|/\*|[{\[]|(?:var|let|const)\s|[\w.]+\()"), "something stands before its JSON"),
    (re.compile(r"\s*(?:---[ \t]*[\r\n]|-[ \t]|[\w-]+:[ \t]*(?:[\r\n]|[^\s,;|]))"), "it looks like YAML"),
    (re.compile(r"\s*\w+[ \t]*=[ \t]*\S"), "it looks like TOML"),
)


def without_comments(lines: list[str], first: int, found: Findings) -> tuple[list[str], int]:
    """Return the lines below those at the top that begin with #, and the number of the first one."""
    at = count = 0
    while at < len(lines) and (not seen(lines[at]) or (lines[at].lstrip().startswith("#") and not _names(lines[at]))):
        count, at = count + bool(seen(lines[at])), at + 1
    if not count or at == len(lines):
        return lines, first
    found.notes.append(f"What begins with # above line {first + at} was taken for a comment.")
    return lines[at:], first + at


def _names(line: str) -> bool:
    """Return whether the line may be a header for all that it begins with #."""
    return any(seen(cell).strip("\"'").casefold() == "prompt" for cell in re.split(r"[,;\t|#]", line))


def is_rule(text: str) -> bool:
    """Return whether a line is no row but a rule, a count of rows, or a database's end of the data."""
    return ("---" in text and _RULE.fullmatch(text) is not None) or _END.fullmatch(text) is not None


def unwrapped(lines: list[str], found: Findings) -> list[str]:
    """Return the lines without the quotes that somebody put around each as a whole; a spreadsheet does."""
    filled = [line for line in lines if seen(line)]
    if not filled or '"' not in filled[0] or not all(_WHOLE.fullmatch(line) for line in filled):
        return lines
    inner = [_inside(line) for line in lines]
    header = next((line for line in inner if seen(line)), "")
    if not _names(header) or not re.search(r"[,;\t|]", header):
        return lines
    found.notes.append("Each line stood in quotes as a whole, which were left out.")
    return inner


def _inside(line: str) -> str:
    whole = _WHOLE.fullmatch(line)
    return line if whole is None else whole[1].replace('""', '"') + "\n"


def what_else(text: str) -> str | None:
    """Return what a text may be that has no header of CSV."""
    return next((kind for pattern, kind in _OTHERS if pattern.match(text)), None)


def other_delimiter(text: str, delimiter: str, columns: int, delimiters: Sequence[str]) -> str | None:
    """Return the delimiter of a row that has its cells by another one than the header."""
    for other in delimiters:
        if other != delimiter and len(next(csv.reader([text], delimiter=other), ())) == columns:
            return "a tab" if other == "\t" else f"“{other}”"
    return None


def has_rows_inside(cells: Sequence[str], names: Sequence[str], delimiter: str) -> bool:
    """Return whether a cell has lines that look like rows: where a quote was never closed, another one closes it."""
    if "id" not in names or len(names) < 2:
        return False
    place = names.index("id")
    for cell in cells:
        for line in cell.splitlines()[1:]:
            pieces = line.split(delimiter)
            id = pieces[place].strip() if place < len(pieces) else ""
            if len(pieces) in (len(names), max(2, len(names) - 1)) and id and not re.search(r"\s", id):
                return True
    return False
