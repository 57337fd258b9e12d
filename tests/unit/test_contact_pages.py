"""Contact pages, judged by their pixels."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from darkroom.media.contact_pages import (
    GROUND,
    LARGE,
    LARGEST_BYTES,
    MOST_ON_PAGE,
    PALE_RED,
    PAPER,
    RED,
    SMALL,
    STRIP,
    Entry,
    Grid,
    draw_page,
    grid_of,
    page_ranges,
)

COLOURS = [(200, 30, 30), (30, 160, 60), (40, 60, 200), (220, 180, 40), (150, 60, 160), (20, 140, 150), (90, 90, 20)]
Colour = tuple[int, int, int]


def saved(image: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    out = BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def plain(colour: Colour, *, size: tuple[int, int] = (300, 300), kind: str = "JPEG") -> bytes:
    return saved(Image.new("RGB", size, colour), kind)


def page(*entries: Entry, title: str = "drafts") -> Image.Image:
    return Image.open(BytesIO(draw_page(iter(entries), count=len(entries), title=title)))


def near(one: Any, other: Colour) -> bool:
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) < 16


def at(image: Image.Image, position: int, *, x: float = 0.5, y: float = 0.5, grid: Grid = LARGE) -> Any:
    """The pixel at these shares of a picture's square."""
    left, top = grid.place(position)
    return image.getpixel((left + round(x * (grid.side - 1)), top + round(y * (grid.side - 1))))


def strip(image: Image.Image, position: int, *, grid: Grid = LARGE) -> Image.Image:
    """What is written under a picture."""
    left, top = grid.place(position)
    return image.crop((left, top + grid.side, left + grid.side, top + grid.side + STRIP))


def word_width(image: Image.Image, position: int) -> int:
    """How many pixels the word takes that stands in a row's square."""
    left, top = LARGE.place(position)
    square = image.crop((left, top, left + LARGE.side, top + LARGE.side))
    ink = square.convert("L").point(lambda grey: 255 * (grey < 150)).getbbox()
    return ink[2] - ink[0] if ink else 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_each_row_has_its_place(kind: str) -> None:
    """In the order of their numbers, line by line."""
    found = page(*(Entry(number=n, content=plain(colour, kind=kind)) for n, colour in enumerate(COLOURS, 1)))
    assert all(near(at(found, n), colour) for n, colour in enumerate(COLOURS))
    assert found.size == LARGE.size(len(COLOURS))


def test_pictures_keep_their_shape() -> None:
    """What is wide, or small, lies in the middle of its square."""
    found = page(
        Entry(number=1, content=plain(COLOURS[0], size=(800, 200))),
        Entry(number=2, content=plain(COLOURS[1], size=(200, 800))),
        Entry(number=3, content=plain(COLOURS[2], size=(100, 100))),
    )
    assert near(at(found, 0), COLOURS[0]) and near(at(found, 0, x=0.03), COLOURS[0])
    assert near(at(found, 0, y=0.2), GROUND) and near(at(found, 0, y=0.8), GROUND)
    assert near(at(found, 1), COLOURS[1]) and near(at(found, 1, x=0.2), GROUND)
    assert near(at(found, 2), COLOURS[2]) and near(at(found, 2, x=0.1, y=0.1), GROUND)


def test_what_is_transparent_shows_the_ground() -> None:
    """And not black, in which a dark thing would be lost; also with a palette."""
    clear = Image.new("RGBA", (200, 200), (0, 0, 0, 0))
    clear.paste((*COLOURS[1], 255), (80, 80, 120, 120))
    found = page(Entry(number=1, content=saved(clear)), Entry(number=2, content=saved(clear.convert("P"))))
    for n in (0, 1):
        assert near(at(found, n), COLOURS[1]) and near(at(found, n, x=0.1, y=0.1), GROUND)


def test_numbers_can_be_told_apart() -> None:
    """Each is written under its picture, and is no other's; the same number is the same."""
    written = [strip(page(Entry(number=number, content=plain(COLOURS[0]))), 0) for number in (3, 8, 38, 38)]
    assert [image.convert("L").getextrema()[0] < 80 for image in written] == [True] * 4
    assert len({image.tobytes() for image in written}) == 3


def test_an_id_is_written_below_and_stays_in_its_place() -> None:
    """Of a long one the end, in which ids differ; characters without a shape do not make it unreadable."""

    def written(label: str | None) -> bytes:
        found = page(
            Entry(number=7, label=label, content=plain(COLOURS[0])), Entry(number=8, content=plain(COLOURS[0]))
        )
        gap = found.crop((LARGE.place(0)[0] + LARGE.side + 1, *LARGE.place(0)[1:], *LARGE.place(1)[:1], found.height))
        assert gap.convert("L").getextrema()[0] > 225
        return strip(found, 0).tobytes()

    long = "campaign-of-the-spring-of-this-year-with-all-red-mugs-there-are"
    seen = [None, "a", "b", "Füchslein", f"{long}-1", f"{long}-2", "x" * 200, "狐", "a\nb"]
    assert len({written(label) for label in seen}) == len(seen)


def test_what_cannot_be_seen_has_its_kind_in_its_place() -> None:
    """In grey and without a frame: nothing has failed. Each kind is told from the others."""
    sounds, mesh = page(Entry(number=1, kind="sound"), Entry(number=2, kind="sound")), page(Entry(number=1, kind="3D"))
    for n in (0, 1):
        assert near(at(sounds, n, x=0.005), GROUND) and near(at(sounds, n, x=0.1, y=0.1), GROUND)
    assert word_width(sounds, 1) > word_width(mesh, 0) > 10


@pytest.mark.parametrize("reason", ["content_policy_violation", "", "x" * 300, "a b c d e f g h i j k l m n o p"])
def test_a_row_that_failed_is_seen_at_once(reason: str) -> None:
    """Red frame, red cross, the code in words, its number in red; its neighbours are as they are."""
    fine = Entry(number=1, content=plain(COLOURS[1], size=(400, 400)))
    found = page(fine, Entry(number=2, label="sku-2", reason=reason), fine)
    for x, y in ((0.005, 0.5), (0.995, 0.5), (0.5, 0.005), (0.5, 0.995)):
        assert near(at(found, 1, x=x, y=y), RED)
    assert near(at(found, 1, x=0.1, y=0.1), PALE_RED) and near(at(found, 1, y=0.5 - 16 / LARGE.side), RED)
    number = strip(found, 1).crop((0, 0, 40, 26))
    red, green, blue = min(number.get_flattened_data(), key=sum)
    assert red > 100 > 3 * max(green, blue) - red
    assert near(at(found, 0, x=0.99), COLOURS[1]) and near(at(found, 2, x=0.01), COLOURS[1])


@pytest.mark.parametrize(
    "content", [b"", b"not a picture", plain(COLOURS[0])[:400], saved(Image.new("RGB", (9, 9)), "PPM")]
)
def test_a_picture_that_cannot_be_shown_hides_none_of_the_others(content: bytes) -> None:
    """It is marked like a failed one."""
    found = page(Entry(number=1, content=content), Entry(number=2, content=plain(COLOURS[1])))
    assert near(at(found, 0, x=0.005), RED) and near(at(found, 1), COLOURS[1])


@pytest.mark.parametrize("total", [0, 1, 9, 61, 499, 500, 501, 1000, 1001, 9_999, 10_000])
def test_every_row_is_on_one_page(total: int) -> None:
    """Of at most 500, in as few pages as can be, none of them with a few left over."""
    ranges = page_ranges(total)
    assert [n for each in ranges for n in each] == list(range(total))
    assert len(ranges) == -(-total // MOST_ON_PAGE)
    assert all(0 < len(each) <= MOST_ON_PAGE for each in ranges)
    if len(ranges) > 1:
        assert min(map(len, ranges)) > 0.9 * max(map(len, ranges)) - 10 * len(ranges)


def test_a_full_page_is_small_enough_to_be_sent() -> None:
    """Even where every picture is noise: then it loses some sharpness."""
    chance = random.Random(1)
    noise = [saved(Image.frombytes("RGB", (200, 200), chance.randbytes(120_000)), "JPEG", quality=95) for _ in range(5)]
    entries = (Entry(number=n + 1, label=f"sku-{n}", content=noise[n % 5]) for n in range(MOST_ON_PAGE))
    content = draw_page(entries, count=MOST_ON_PAGE, title="drafts")
    assert len(content) <= LARGEST_BYTES
    found = Image.open(BytesIO(content))
    assert found.size == SMALL.size(MOST_ON_PAGE) and grid_of(MOST_ON_PAGE) is SMALL
    assert near(found.getpixel((found.width - 3, found.height - 3)), PAPER)
    assert strip(found, 499, grid=SMALL).convert("L").getextrema()[0] < 80


def test_pictures_are_taken_one_at_a_time() -> None:
    """A page of large ones takes no more memory than a page of small ones."""
    large = plain(COLOURS[0], size=(2000, 1500))

    def entries() -> Iterator[Entry]:
        return (Entry(number=n, content=bytes(bytearray(large))) for n in range(1, 101))

    tracemalloc.start()
    draw_page(entries(), count=100, title="drafts")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * len(large) + LARGEST_BYTES
