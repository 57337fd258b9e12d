"""What a person types to choose winners, and what they are told where it is not clear."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from darkroom.batches.winners import as_ranges, parse_winners
from darkroom.errors import BadInput


def parse(text: str, *, rows: int = 30, failed: tuple[int, ...] = ()) -> tuple[int, ...]:
    return parse_winners(text, rows=rows, failed=failed)


def refused(text: str, *, rows: int = 30, failed: tuple[int, ...] = ()) -> str:
    with pytest.raises(BadInput) as caught:
        parse(text, rows=rows, failed=failed)
    assert caught.value.field == "winners"
    return caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "3, 7, 12-15",
        "3,7,12-15",
        "12-15 7 3",
        " 3; 7; 12 - 15 ; ",
        "3\n7\n12–15\n",
        "3 7 12 — 13, 14‑15",
        "3-3, 7, 12, 13-15",
        "003, 07, 12-15,",
    ],
)
def test_numbers_are_those_on_the_contact_sheet(text: str) -> None:
    """From 1, single or as ranges, in any order and with any usual separator; they come back as rows from 0."""
    assert parse(text) == (2, 6, 11, 12, 13, 14)


def test_all_is_every_row_that_has_a_draft() -> None:
    """And none is an answer too."""
    assert parse("all", rows=5, failed=(1, 3)) == (0, 2, 4)
    assert parse(" ALL ", rows=3) == (0, 1, 2)
    assert parse("None", rows=3) == ()
    assert parse("1-30") == tuple(range(30))


def test_all_but_some_is_every_other_row_that_has_a_draft() -> None:
    """One that failed need not be named, and may be."""
    assert parse("all but 1, 3", rows=5, failed=(3,)) == (1, 4)
    assert parse("All but 2 – 4", rows=5, failed=(3,)) == (0, 4)
    assert parse("all but 1-3", rows=3) == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "nothing was chosen"),
        (" ,; \n", "nothing was chosen"),
        ("0", "there is no row 0"),
        ("31", "there is no row 31"),
        ("1-999999999", "1-999999999 goes past the last row"),
        ("99999999999", "“99999999999” is no number"),
        ("20-12", "20-12 runs backwards: write 12-20"),
        ("7, 5-9", "named twice: 7"),
        ("3-7, 5-9", "named twice: 5-7"),
        ("3, fox, 5", "“fox” is no number"),
        ("3, all", "all and none stand alone"),
        ("all but", "“all but” names no row"),
        ("all but 31", "there is no row 31"),
        ("all but 3, all", "all and none stand alone"),
        ("3.5", "“3.5” is no number"),
        ("-3", "“-3” is no number"),
        ("3--5", "“3--5” is no number"),
        ("x" * 500, f"“{'x' * 20}…” is no number"),
        ("1," * 60_000, "more than 100,000 characters"),
        ("٣", "“٣” is no number"),
    ],
)
def test_what_is_not_clear_is_refused_and_says_how_to_write_it(text: str, said: str) -> None:
    """Nothing is guessed: this answer is what will be paid for."""
    assert (
        refused(text)
        == f"winners: {said}. Write numbers from 1 to 30, e.g. “3, 7, 12-20”, or “all”, “all but 8”, or “none”."
    )


def test_a_row_that_failed_cannot_win() -> None:
    """It is named as on the sheet, where it is marked."""
    assert "without a draft, as it failed: 3-4, 9." in refused("1-9", failed=(2, 3, 8, 20))


def test_all_mistakes_are_told_at_once() -> None:
    """So that the next try is the last."""
    message = refused("0, 20-12, fox, 5, 5, 3", failed=(2,))
    assert message.startswith(
        "winners: there is no row 0; 20-12 runs backwards: write 12-20; “fox” is no number; named twice: 5;"
        " without a draft, as it failed: 3. Write"
    )
    assert "; and 40 more. Write" in refused(" ".join(f"x{n}" for n in range(50)))


def test_a_text_costs_what_its_batch_has_rows() -> None:
    """A short one can name all rows ten thousand times, or be blank for the most part."""
    tracemalloc.start()
    try:
        assert "named twice: 1-10000." in refused("1-10000," * 500, rows=10_000)
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()
    began = time.process_time()
    assert parse("1" + " " * 99_998 + "2") == (0, 1)
    assert time.process_time() - began < 2


def test_rows_are_named_in_few_words() -> None:
    """As ranges, and no more of them than one reads."""
    assert as_ranges([0, 1, 2, 6, 19, 18]) == "1-3, 7, 19-20"
    assert as_ranges([]) == ""
    assert as_ranges(range(0, 40, 2), most=3) == "1, 3, 5…"
    assert parse_winners(as_ranges(range(0, 29, 3)), rows=29) == tuple(range(0, 29, 3))


def test_a_refusal_names_the_field_that_the_text_came_from() -> None:
    """Of the form or of the API."""
    with pytest.raises(BadInput, match=r"^numbers: there is no row 31") as caught:
        parse_winners("31", rows=30, field="numbers")
    assert caught.value.field == "numbers"
