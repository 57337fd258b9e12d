"""Which rows a person has chosen: "3, 7, 12-20", "all" or "none", as typed into a form, or a list as the API takes it.

Nothing is guessed: a number that is not on the contact sheet, a row without a draft, a row named twice or a range
that runs backwards is refused, with all that is wrong in one message, because this answer is what will be paid for.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

from darkroom.errors import BadInput

FIELD = "winners"
LONGEST = 100_000  # characters: ten thousand numbers fit
MOST_NAMED = 10  # numbers, or ranges of them, in one part of a message
_DASHES = re.compile(r"\s*[-‐‑‒–—]\s*")  # as keyboards and word processors make them
_PART = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


def parse_winners(text: str, *, rows: int, failed: Collection[int] = (), field: str = FIELD) -> tuple[int, ...]:
    """Return the chosen rows, sorted, from 0. In the text they are numbered from 1, as on the contact sheet.

    `rows`: how many there are. `failed`: those without a draft, from 0; "all" leaves them out. Raises BadInput(field).
    `field`: where the text came from.
    """
    if len(text) > LONGEST:
        raise _refused([f"more than {LONGEST:,} characters"], rows, field)
    words = [word for word in re.split(r"[,;\s]+", _DASHES.sub("-", text)) if word]
    match [word.lower() for word in words]:
        case []:
            raise _refused(["nothing was chosen"], rows, field)
        case ["none"]:
            return ()
        case ["all"]:
            return tuple(sorted(set(range(rows)) - set(failed)))
    ranges, wrong = _ranges(words, rows)
    chosen = [number - 1 for each in ranges for number in each]
    wrong += _wrong_together(chosen, failed)
    if wrong:
        raise _refused(wrong, rows, field)
    return tuple(sorted(chosen))


def as_ranges(numbers: Iterable[int], *, most: int = MOST_NAMED) -> str:
    """Write rows from 0 as a person does, numbered from 1: "3, 7, 12-20".

    It ends in "…" where there are more ranges than `most`.
    """
    found = list[tuple[int, int]]()
    for n in sorted(set(numbers)):
        if found and found[-1][1] == n - 1:
            found[-1] = (found[-1][0], n)
        else:
            found.append((n, n))
    named = [f"{a + 1}" if a == b else f"{a + 1}-{b + 1}" for a, b in found[:most]]
    return ", ".join(named) + ("…" if len(found) > most else "")


def _ranges(words: Sequence[str], rows: int) -> tuple[list[range], list[str]]:
    """Read the words as ranges of numbers from 1, and say what is wrong with those that are none."""
    found, wrong = list[range](), list[str]()
    for word in words:
        read = _PART.fullmatch(word)
        if read is None:
            together = (
                "all and none stand alone" if word.lower() in ("all", "none") else f"“{_short(word)}” is no number"
            )
            wrong.append(together)
            continue
        start, end = int(read[1]), int(read[2] or read[1])
        if start > end:
            wrong.append(f"{word} runs backwards: write {end}-{start}")
        elif not 1 <= start <= end <= rows:
            wrong.append(f"there is no row {word}" if start == end else f"{word} goes past the last row")
        else:
            found.append(range(start, end + 1))
    return found, wrong


def _wrong_together(chosen: Sequence[int], failed: Collection[int]) -> Iterator[str]:
    """Say what is wrong with rows that are each a row."""
    if twice := set(_twice(chosen)):
        yield f"named twice: {as_ranges(twice)}"
    if without := set(chosen) & set(failed):
        yield f"without a draft, as it failed: {as_ranges(without)}"


def _twice(chosen: Iterable[int]) -> Iterator[int]:
    seen = set[int]()
    for n in chosen:
        if n in seen:
            yield n
        seen.add(n)


def _refused(wrong: Sequence[str], rows: int, field: str) -> BadInput:
    listed = "; ".join(wrong[:MOST_NAMED]) + (
        f"; and {len(wrong) - MOST_NAMED} more" if len(wrong) > MOST_NAMED else ""
    )
    how = f"Write numbers from 1 to {rows}, e.g. “3, 7, 12-20”, or “all”, or “none”"
    return BadInput(f"{field}: {listed}. {how}.", field=field)


def _short(word: str) -> str:
    return word if len(word) <= 20 else f"{word[:20]}…"
