"""How what is not usual in a manifest was understood: told with the answer, as a wrong guess would be paid for."""

from __future__ import annotations

from collections import defaultdict

MOST_NAMED = 5
MOST_NOTES = 50


class Notes:
    """`of_all`: on the manifest as a whole, in sentences."""

    def __init__(self) -> None:
        self.of_all: list[str] = []
        self._of_cells: dict[tuple[str, str], list[int]] = defaultdict(list)

    def add(self, row: int, column: str, said: str) -> None:
        """Note something of a cell, the same for all cells of which it holds."""
        self._of_cells[column, said].append(row)

    def sentences(self) -> tuple[str, ...]:
        """Return the notes, those of cells gathered by column."""
        found = [f"{column} of {_rows(rows)}: {said}." for (column, said), rows in self._of_cells.items()]
        return tuple((self.of_all + found)[:MOST_NOTES])


def _rows(numbers: list[int]) -> str:
    named = ", ".join(map(str, numbers[:MOST_NAMED]))
    more = f" and {len(numbers) - MOST_NAMED:,} more" if len(numbers) > MOST_NAMED else ""
    return f"row{'s' if len(numbers) > 1 else ''} {named}{more}"
