"""Which rows a person has chosen: "3, 7, 12-20", "all", "all but 8" or "none", as typed into a form, or as a list.

Nothing is guessed: a number that is not on the contact sheet, a row without a draft, a row named twice or a range
that runs backwards is refused, with all that is wrong in one message, because this answer is what will be paid for.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import accumulate

from darkroom.errors import BadInput

FIELD = "winners"
LONGEST = 100_000  # characters: ten thousand numbers fit
MOST_NAMED = 10  # numbers, or ranges of them, in one part of a message
_DASHES = re.compile(" ?[-‐‑‒–—] ?")  # as keyboards and word processors make them
_PART = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


def parse_winners(text: str, *, rows: int, failed: Collection[int] = (), field: str = FIELD) -> tuple[int, ...]:
    """Return the chosen rows, sorted, from 0. In the text they are numbered from 1, as on the contact sheet.

    `rows`: how many there are. `failed`: those without a draft, from 0; "all" leaves them out, and so does "all but 8".
    `field`: where the text came from. Raises BadInput(field).
    """
    if len(text) > LONGEST:
        raise _refused([f"more than {LONGEST:,} characters"], rows, field)
    # One blank for many: each of them would be looked at anew for a dash behind it.
    words = [word for word in re.split("[,; ]+", _DASHES.sub("-", " ".join(text.split()))) if word]
    match [word.lower() for word in words]:
        case []:
            raise _refused(["nothing was chosen"], rows, field)
        case ["none"]:
            return ()
        case ["all"]:
            return tuple(sorted(set(range(rows)) - set(failed)))
        case ["all", "but"]:
            raise _refused(["“all but” names no row"], rows, field)
        case ["all", "but", *_]:
            left_out = _numbered(words[2:], rows, (), field)
            return tuple(sorted(set(range(rows)) - set(failed) - set(left_out)))
    return tuple(_numbered(words, rows, failed, field))


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


def _numbered(words: Sequence[str], rows: int, failed: Collection[int], field: str) -> list[int]:
    """Return the rows that the words name, from 0, sorted. Raise BadInput for all that is wrong with them together."""
    ranges, wrong = _ranges(words, rows)
    times = _times(ranges, rows)
    wrong += _wrong_together(times, failed)
    if wrong:
        raise _refused(wrong, rows, field)
    return [n for n, named in enumerate(times) if named]


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


def _times(ranges: Iterable[range], rows: int) -> list[int]:
    """Return of each row, from 0, how often it is named."""
    # By where ranges begin and end alone: a short text can name all rows ten thousand times.
    steps = [0] * (rows + 1)
    for each in ranges:
        steps[each.start - 1] += 1
        steps[each.stop - 1] -= 1
    return list(accumulate(steps))[:rows]


def _wrong_together(times: Sequence[int], failed: Collection[int]) -> Iterator[str]:
    """Say what is wrong with rows that are each a row. `times`: how often each is named."""
    if twice := [n for n, named in enumerate(times) if named > 1]:
        yield f"named twice: {as_ranges(twice)}"
    if without := {n for n, named in enumerate(times) if named}.intersection(failed):
        yield f"without a draft, as it failed: {as_ranges(without)}"


def _refused(wrong: Sequence[str], rows: int, field: str) -> BadInput:
    listed = "; ".join(wrong[:MOST_NAMED]) + (
        f"; and {len(wrong) - MOST_NAMED} more" if len(wrong) > MOST_NAMED else ""
    )
    how = f"Write numbers from 1 to {rows}, e.g. “3, 7, 12-20”, or “all”, “all but 8”, or “none”"
    return BadInput(f"{field}: {listed}. {how}.", field=field)


def _short(word: str) -> str:
    return word if len(word) <= 20 else f"{word[:20]}…"
