"""Rows out of CSV, whatever wrote it: the delimiter is found by the header, all else is Python's `csv`.

Nothing is guessed that could pay for the wrong picture: a row with more cells than the header has names, or with stray
quotes, is a problem and not half a prompt. What is wrong is shown with the line as it was and as it should be, in which
“…” stands for every text.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from typing import NoReturn

from darkroom.batches.csv_lines import (
    has_rows_inside,
    is_rule,
    other_delimiter,
    unwrapped,
    what_else,
    without_comments,
)
from darkroom.batches.names import column_names, is_name, seen
from darkroom.batches.problems import Problem
from darkroom.batches.raw import MOST_COLUMNS, MOST_ROWS, Findings, Raw, Unreadable, unreadable

DELIMITERS = (",", ";", "\t", "|")
MOST_ABOVE = 3  # lines of a title above the header
_BLANK = " "  # of R's `write.table`; only where each name is in quotes
_NOT_IN_TEXT = "\x1f"  # a delimiter for where nothing delimits: ASCII's unit separator
# The line by which Excel is told the delimiter, above the header: sep=;
_DECLARED = re.compile(r"""\s*"?sep=("?)(?P<delimiter>[^\r\n])\1"?[,;\t|]*(?:\r\n|\r|\n)""", re.IGNORECASE)
_ALL_SINGLE = re.compile(r"\s*'[^'\r\n]*'(?:[,;\t|] ?'[^'\r\n]*')*\s*")
_ALL_QUOTED = re.compile(r'\s*"[^"\r\n]*"(?: "[^"\r\n]*")+\s*')
_OPENING, _CLOSING = "“„‟«", "”“»"
_TYPOGRAPHIC = rf"[{_OPENING}][^{_OPENING}{_CLOSING}\r\n]*[{_CLOSING}]"
_ALL_TYPOGRAPHIC = re.compile(rf"\s*{_TYPOGRAPHIC}(?:[,;\t|] ?{_TYPOGRAPHIC})*[ \t]*(?:[\r\n]|$)")
_OPENS = re.compile(rf"(^|[,;\t|\r\n] ?)[{_OPENING}]")
_CLOSES = re.compile(rf"[{_CLOSING}](?=[,;\t|\r\n]|$)")
_MARK = re.compile(rf"[{_OPENING}{_CLOSING}]")
_FORMULA_OF_TEXT = re.compile(r'\s*="([^"]*)"\s*')  # ="007": so a spreadsheet leaves its zeros alone
_QUOTES = "Text that holds the delimiter, a quote or a line break is put in quotes, and a quote in it is written twice."
_TOO_LONG = f"a cell of the row that begins here has more than {csv.field_size_limit():,} characters"
_CSV_OR_JSON = "Send CSV with a header, e.g. id,prompt,image_size,seed, or JSON: a list of objects."
_MOST_SHOWN = 120


@dataclass(frozen=True, kw_only=True)
class _Record:
    """A row's cells, the line it begins on, and those lines as they were."""

    line: int
    cells: Sequence[str]
    text: str


@dataclass(frozen=True, kw_only=True)
class _Dialect:
    """`alone`: there is one column, so nothing delimits, and what is not quoted from end to end is text."""

    delimiter: str
    alone: bool = False
    escape: str | None = None
    quote: str = '"'


@dataclass(frozen=True, kw_only=True)
class _Header:
    """`names`: of the columns, none for one that has no name."""

    record: _Record
    dialect: _Dialect
    names: Sequence[str]
    above: int = 0  # lines of a title


def csv_rows(text: str, found: Findings) -> Iterator[Raw]:
    """Yield the rows. Raises Unreadable."""
    text = _straightened(text, found)
    first, declared = 1, _DECLARED.match(text)
    lines = list(StringIO(text, newline=""))
    if declared:
        lines, first = list(StringIO(text[declared.end() :], newline="")), 2
    lines, first = without_comments(unwrapped(lines, found), first, found)
    header = _header(lines, first, declared["delimiter"] if declared else None, found)
    records = _records_after(header, lines, first)
    number, unnamed = 0, set[int]()
    for record in _without_row_names(records, header):
        if _is_header_again(record, header, found):
            continue
        number += 1
        cells = _fitted(record, header, number, found)
        if cells is not None:
            _note_losses(record, cells, header, found, unnamed)
            texts = (_plain_text(cell) for cell in cells)
            given = {name: text for name, text in zip(header.names, texts, strict=False) if name and seen(text)}
            # Excel puts semicolons between cells where its language has the comma in numbers.
            comma = header.dialect.delimiter == ";"
            yield Raw(number=number, line=record.line, cells=given, text=True, decimal_comma=comma)


def _note_losses(record: _Record, cells: Sequence[str], header: _Header, found: Findings, unnamed: set[int]) -> None:
    """Note what stands in columns without a name, once for each, and rows that may have become a part of a cell."""
    names = header.names
    for place, (name, cell) in enumerate(zip(names, cells, strict=False), 1):
        if not name and seen(cell) and not seen(cell).isdecimal() and place not in unnamed:
            unnamed.add(place)
            found.notes.append(f"Column {place} has no name: what is in it was left out.")
    if "\n" in record.text.rstrip() and has_rows_inside(cells, names, header.dialect.delimiter):
        found.notes.append(
            f"Line {record.line}: a cell in quotes has lines that look like rows. See whether its quotes are meant."
        )


def _plain_text(cell: str) -> str:
    formula = _FORMULA_OF_TEXT.fullmatch(cell)
    return formula[1] if formula else cell


def _straightened(text: str, found: Findings) -> str:
    """Return the text with plain quotes around its cells, where whoever edited it made all of them typographic."""
    if not _ALL_TYPOGRAPHIC.match(text):
        return text
    found.notes.append("Typographic quotes around the cells were taken for quotes.")
    return _CLOSES.sub('"', _OPENS.sub(r'\1"', text))


def _header(lines: Sequence[str], first: int, declared: str | None, found: Findings) -> _Header:
    """Read the header by the delimiter that gives the most columns a name."""
    start = next((line for line in lines if seen(line)), "")
    quote = "'" if _ALL_SINGLE.fullmatch(start) else '"'
    tried = [
        header
        for above in range(MOST_ABOVE + 1)
        for delimiter in ([declared] if declared else [*DELIMITERS, _BLANK])
        if (header := _tried(lines, first, _Dialect(delimiter=delimiter, quote=quote), above, found)) is not None
    ]
    fitting = [each for each in tried if _has_one_of(found.required, each.names)]
    # A title is supposed only where the header is not found without one.
    least = min((each.above for each in fitting), default=0)
    header = max(
        (each for each in fitting or tried if each.above == least),
        key=lambda each: sum(map(is_name, each.names)),
        default=None,
    )
    if header is None:
        unreadable("the quotes of the row that begins here do not match", _QUOTES, line=_first_filled(lines, first))
    _require_names(header, found, lines)
    if len(header.names) == 1 and len(header.record.cells) == 1:
        # A list of prompts alone needs no quotes around those with commas.
        return replace(header, dialect=replace(header.dialect, delimiter=_NOT_IN_TEXT, alone=True))
    return header


def _tried(lines: Sequence[str], first: int, dialect: _Dialect, above: int, found: Findings) -> _Header | None:
    """Return the header that this dialect gives, below so many lines of a title; None if it gives none."""
    records = list[_Record]()
    try:
        for record in _filled(_records(lines, first, dialect)):
            records.append(record)
            if len(records) > above:
                break
    except Unreadable:  # its quotes make no sense between these delimiters, and may between others
        return None
    record = records[above] if len(records) > above else _Record(line=first, cells=[""], text="")
    if sum(1 for cell in record.cells if seen(cell)) > MOST_COLUMNS:
        if above:
            return None  # a row whose text has them
        unreadable(
            f"it has more than {MOST_COLUMNS:,} columns", "Leave out those that no model takes.", line=record.line
        )
    if dialect.delimiter == _BLANK and not _ALL_QUOTED.fullmatch(record.text):
        return None
    cells = list(record.cells)
    while cells and not seen(cells[-1]):  # columns that a spreadsheet thinks there are
        cells.pop()
    names = column_names(cells, found.known)
    while names and not names[-1]:
        names.pop()
    # A title stands in one cell; a line with several is a row.
    if above and (len(names) < 2 or any(sum(bool(seen(cell)) for cell in each.cells) > 1 for each in records[:above])):
        return None
    return _Header(record=record, dialect=dialect, names=names, above=above)


def _require_names(header: _Header, found: Findings, lines: Sequence[str]) -> None:
    line, names = header.record.line, header.names
    if not _has_one_of(found.required, names):
        missing = next(iter(found.required))
        if (kind := what_else("".join(lines[:5]))) is not None:
            unreadable(f"{kind}, and the line has no column {missing}", _CSV_OR_JSON, line=line)
        remedy = "Begin with a header, e.g. id,prompt,image_size,seed."
        unreadable("the header does not name this column", remedy, line=line, column=missing)
    for place, name in enumerate(names, 1):
        if name and not is_name(name):
            remedy = "Use letters, digits and underscores, as the documentation names them, e.g. image_size."
            unreadable(f"the name of column {place} cannot be one", remedy, line=line)
        if name and names.count(name) > 1:
            unreadable("the header names this column twice", "Leave one of them out.", line=line, column=name)


def _has_one_of(required: Collection[str], names: Sequence[str]) -> bool:
    return not required or any(name in required for name in names)


def _records_after(header: _Header, lines: Sequence[str], first: int) -> list[_Record]:
    """Return the rows below the header; where quotes go wrong, once more with escapes as databases have them."""
    try:
        return _below(header, lines, first, header.dialect)
    except Unreadable:
        # Not before: elsewhere a backslash is a character of the text.
        if not any('\\"' in line for line in lines):
            raise
        try:
            return _below(header, lines, first, replace(header.dialect, escape="\\"))
        except Unreadable:
            pass
        raise


def _below(header: _Header, lines: Sequence[str], first: int, dialect: _Dialect) -> list[_Record]:
    records = []
    for record in _filled(_records(lines, first, dialect, names=header.names)):
        if record.line > header.record.line:
            records.append(record)
        if len(records) > MOST_ROWS:
            break  # which is told by whoever counts them
    return records


def _filled(records: Iterator[_Record]) -> Iterator[_Record]:
    """Skip empty lines, as spreadsheets leave some at the end, and the rules that databases draw."""
    return (record for record in records if any(map(seen, record.cells)) and not is_rule(record.text))


def _records(lines: Sequence[str], first: int, dialect: _Dialect, *, names: Sequence[str] = ()) -> Iterator[_Record]:
    """Yield each row. Raises Unreadable where quotes go wrong: no row after that is sure."""
    at = 0
    while at < len(lines):
        taken: list[str] = []
        # A reader for each row: it tells which lines are the row's, and one that failed cannot be read on.
        reader = csv.reader(
            _taking(lines, at, taken),
            delimiter=dialect.delimiter,
            strict=True,  # else Python reads on over a stray quote, and half a prompt would be paid for
            skipinitialspace=True,
            quotechar=dialect.quote,
            escapechar=dialect.escape,
        )
        try:
            cells = next(reader)
        except csv.Error as error:
            literal = _literal(lines[at], dialect, names)
            if literal is None and "field limit" in str(error):
                unreadable(_TOO_LONG, "A prompt has at most 4,000.", line=first + at)
            if literal is None:
                _unmatched(lines[at], first + at, dialect.delimiter, names)
            del taken[1:]  # it may have read on, to the end of the text, for a quote that closes
            cells = literal
        yield _Record(line=first + at, cells=cells, text="".join(taken))
        at += len(taken)


def _literal(line: str, dialect: _Dialect, names: Sequence[str]) -> list[str] | None:
    """Return the cells of a line whose quotes are a part of its text: where there is one column, or between tabs."""
    text = line.rstrip("\r\n")
    if dialect.alone:
        return [text]
    cells = text.split(dialect.delimiter)
    # A quote that has no second one may be of a cell with a line break.
    fits = len(cells) == len(names) and text.count(dialect.quote) % 2 == 0
    # Google Sheets puts nothing between tabs in quotes, so those that are there belong to the text.
    return cells if dialect.delimiter == "\t" and fits else None


def _taking(lines: Sequence[str], at: int, taken: list[str]) -> Iterator[str]:
    for place in range(at, len(lines)):
        taken.append(lines[place])
        yield lines[place]


def _without_row_names(records: Sequence[_Record], header: _Header) -> Sequence[_Record]:
    """Leave out the numbers that R writes before each row, and not in the header."""
    names = header.names
    for number, record in enumerate(records, 1):
        # An unquoted one before an `id` may as well be that, and the prompt have a comma.
        sure = names[:1] != ["id"] or record.text.lstrip().startswith('"')
        if len(record.cells) != len(names) + 1 or record.cells[0] != str(number) or not sure:
            return records
    return [replace(record, cells=record.cells[1:]) for record in records]


def _is_header_again(record: _Record, header: _Header, found: Findings) -> bool:
    """Return whether files were put one after the other, each with its header."""
    if len(header.names) < 2 or [seen(cell) for cell in record.cells] != [seen(cell) for cell in header.record.cells]:
        return False
    found.notes.append(f"Line {record.line} repeats the header, and was taken for that.")
    return True


def _fitted(record: _Record, header: _Header, number: int, found: Findings) -> Sequence[str] | None:
    """Return as many cells as the header has names; None, and tell why, if there are more."""
    names, delimiter = header.names, header.dialect.delimiter
    cells = _joined(record, delimiter)
    if len(cells) < len(record.cells):
        found.notes.append(f"Line {record.line}: typographic quotes around text with the delimiter are quotes.")
    if not any(map(seen, cells[len(names) :])):
        _require_delimiter(record, cells, header, number, found)
        return cells
    problem = f"has {len(cells)} cells, and the header has {len(names)} names"
    remedy = _as_it_should_be(record.text, _merged(cells, names, delimiter), delimiter)
    found.problems.append(Problem(row=number, line=record.line, column=None, problem=problem, remedy=remedy))
    return None


def _require_delimiter(record: _Record, cells: Sequence[str], header: _Header, number: int, found: Findings) -> None:
    """Tell of a row that has one cell, as its cells are delimited by something else than the header's."""
    names, delimiter = header.names, header.dialect.delimiter
    if len(names) < 2 or names[0] == "prompt" or any(map(seen, cells[1:])):  # a row may have a prompt alone
        return
    if (other := other_delimiter(record.text, delimiter, len(names), DELIMITERS)) is not None:
        problem = f"has its cells by {other}, and the header its names by “{_shown(delimiter)}”"
        remedy = "Use one delimiter throughout."
        found.problems.append(Problem(row=number, line=record.line, column=None, problem=problem, remedy=remedy))


def _joined(record: _Record, delimiter: str) -> Sequence[str]:
    """Put together what lies in typographic quotes: “a fox, in the snow”. It has no others inside."""
    joined: list[str] = []
    begun: int | None = None
    for cell in record.cells:
        text = seen(cell)
        joined.append(cell)
        if begun is None:
            opens = text.startswith(tuple(_OPENING)) and not _MARK.search(text, 1)
            begun = len(joined) - 1 if opens else None
        elif _MARK.search(text):
            if text.endswith(tuple(_CLOSING)) and not _MARK.search(text[:-1]):
                joined[begun:] = [seen(_as_written(joined[begun:], record, delimiter))[1:-1]]
            begun = None
    return joined


def _as_written(cells: Sequence[str], record: _Record, delimiter: str) -> str:
    """Return these cells in one, with the blanks behind delimiters that were skipped."""
    between = rf"{re.escape(delimiter)} *"
    written = re.search(between.join(map(re.escape, cells)), record.text)
    return written[0] if written else delimiter.join(cells)


def _merged(cells: Sequence[str], names: Sequence[str], delimiter: str) -> list[str]:
    """Return the cells as they probably are meant, with those that are too many as a part of the prompt."""
    place = names.index("prompt") if "prompt" in names else len(names) - 1
    filled = list(cells)
    while filled and not seen(filled[-1]):
        filled.pop()
    end = place + 1 + len(filled) - len(names)
    return [*filled[:place], delimiter.join(filled[place:end]), *filled[end:]]


def _unmatched(text: str, line: int, delimiter: str, names: Sequence[str]) -> NoReturn:
    pieces = text.rstrip("\r\n").split(delimiter)
    cells = [_unquoted(piece.strip()) for piece in pieces]
    if names and len(cells) > len(names):
        cells = _merged(cells, names, delimiter)
    unreadable(
        "the quotes of the row that begins here do not match", _as_it_should_be(text, cells, delimiter), line=line
    )


def _unquoted(piece: str) -> str:
    return piece[1:-1] if len(piece) > 1 and piece[0] == piece[-1] == '"' else piece


def _as_it_should_be(text: str, cells: Sequence[str], delimiter: str) -> str:
    """Show the line as it is and as it should be."""
    as_it_is = _shape(text.strip("\r\n"), delimiter)
    should = delimiter.join(_cell(cell, delimiter) for cell in cells)
    return f"It reads {_shown(as_it_is)} and should read {_shown(should)} if that is what is meant. {_QUOTES}"


def _cell(cell: str, delimiter: str) -> str:
    shape = _shape(cell, delimiter)
    return '"' + shape.replace('"', '""') + '"' if delimiter in shape or '"' in shape else shape


def _shape(text: str, delimiter: str) -> str:
    # Its texts are left out: they may be prompts, and errors go into logs.
    return re.sub(f'[^"{re.escape(delimiter)}]+', "…", text)


def _shown(shape: str) -> str:
    cut = shape if len(shape) <= _MOST_SHOWN else shape[:_MOST_SHOWN] + "…"
    return cut.replace("\t", "⇥")


def _first_filled(lines: Sequence[str], first: int) -> int:
    return next((first + place for place, line in enumerate(lines) if seen(line)), first)
