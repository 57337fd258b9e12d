"""How commands print rows: a table for people, tab-separated lines in a pipe, JSON lines with `--json`.

What cannot be confused with data goes to stderr: that there is nothing, and why.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

WIDEST = 10_000  # characters of a line; what is longer is cut
# By one name everywhere, so that a script need not look it up: also where it changes nothing.
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON, one document per line.")]
AnywayOption = Annotated[bool, typer.Option("--json", help="It is JSON anyway.")]
OneJsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]


def print_rows(
    columns: Sequence[str],
    rows: Iterable[tuple[Sequence[str], Mapping[str, Any]]],
    *,
    as_json: bool,
    empty: str,
) -> None:
    """Print rows, each as its cells and as its document. `empty`: the sentence where there are none."""
    found = list(rows)
    if not found:
        typer.echo(empty, err=True)  # a pipe gets an empty list
    elif as_json:
        for _, document in found:
            print_json(document)
    elif sys.stdout.isatty():
        print_table(columns, [cells for cells, _ in found])
    else:
        for cells, _ in found:
            # A dash, as tools that split at any white space would lose count of the cells behind an empty one.
            typer.echo("\t".join(cell or "-" for cell in map(one_line, cells)))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table whose cells are never cut. A terminal that is too narrow wraps it."""
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    # An id is there to be copied, whole.
    for column in columns:
        table.add_column(column, no_wrap=True)
    for cells in rows:
        # As `Text`: brackets in somebody's words are no markup.
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    here = Console()
    # Measured on a line without end: at the terminal's width Rich would cut cells to fit.
    needed = Measurement.get(here, here.options.update(width=WIDEST), table).maximum
    # With a height as well, else a dumb terminal has 80 columns whatever is said.
    Console(highlight=False, width=max(here.width, needed), height=here.height).print(table, soft_wrap=True)


def print_json(document: Mapping[str, Any]) -> None:
    """Print it on one line, so that lists are streams."""
    typer.echo(json.dumps(document, ensure_ascii=False, default=_plain))


def one_line(cell: str) -> str:
    """Return it without what would end its cell."""
    # Providers' and people's words are among them, with tabs and line breaks.
    return "".join(each if each.isprintable() else " " for each in cell)


def when(at: datetime | str | None) -> str:
    """Write a time for people, in this machine's zone; nothing for None."""
    if at is None:
        return ""
    read = datetime.fromisoformat(at) if isinstance(at, str) else at
    return f"{read.astimezone():%Y-%m-%d %H:%M:%S}"


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else float(value)
