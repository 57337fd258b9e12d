"""Sheets of pictures, judged by their pixels."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from darkroom.media.contact_sheet import CELL, GAP, LINE, PAPER, Sample, contact_sheet

COLOURS = [(200, 30, 30), (30, 160, 60), (40, 60, 200), (220, 180, 40)]


def plain(colour: tuple[int, int, int], *, size: tuple[int, int] = (300, 300), kind: str = "PNG") -> bytes:
    out = BytesIO()
    Image.new("RGB", size, colour).save(out, kind)
    return out.getvalue()


def sheet(*contents: bytes, label: str = "a fox", title: str = "fox, version 1") -> Image.Image:
    return Image.open(BytesIO(contact_sheet([Sample(content=c, label=label) for c in contents], title=title)))


def near(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) < 12


def middle(number: int) -> tuple[int, int]:
    return (
        GAP + (number % 2) * (CELL + GAP) + CELL // 2,
        GAP + LINE + GAP + (number // 2) * (CELL + LINE + GAP) + CELL // 2,
    )


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_each_picture_lies_in_a_place_of_its_own(count: int) -> None:
    """Two to a row, in their order."""
    found = sheet(*(plain(colour) for colour in COLOURS[:count]))
    for number in range(count):
        assert near(found.getpixel(middle(number)), COLOURS[number])
    assert found.width == GAP + min(2, count) * (CELL + GAP)


def test_pictures_keep_their_shape() -> None:
    """A wide one has paper above and below it."""
    found = sheet(plain(COLOURS[0], size=(600, 150), kind="JPEG"))
    x, y = middle(0)
    assert near(found.getpixel((x, y)), COLOURS[0])
    assert near(found.getpixel((x, y - 100)), PAPER)


def test_there_is_a_line_under_each_picture_and_it_stays_in_its_place() -> None:
    """A prompt is longer than a picture is wide."""
    found = sheet(plain(COLOURS[0]), plain(COLOURS[1]), label="ein Füchslein " * 40)
    top = GAP + LINE + GAP + CELL
    left_line, gap = ((0, top, GAP + CELL, top + LINE), (GAP + CELL + 2, top, GAP + CELL + GAP - 2, top + LINE))
    assert found.crop(left_line).convert("L").getextrema()[0] < 150
    assert found.crop(gap).convert("L").getextrema()[0] > 235


def test_the_same_pictures_make_the_same_sheet() -> None:
    """To the byte."""
    samples = [Sample(content=plain(colour), label="a fox") for colour in COLOURS]
    assert contact_sheet(samples, title="fox") == contact_sheet(samples, title="fox")
