"""Several pictures on one sheet, with a line under each: what a person looks at to judge them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont, ImageOps

from darkroom.media.fonts import font_file
from darkroom.media.formats.pictures import open_picture
from darkroom.media.formats.pixels import plain

CELL = 512  # pixels: the square in which each picture lies
GAP = 16
LINE = 34  # the height of a line of text
INK, PAPER, FADED = (34, 34, 34), (250, 250, 248), (110, 110, 110)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A picture that was verified before, and what to write under it."""

    content: bytes
    label: str


def contact_sheet(samples: Sequence[Sample], *, title: str) -> bytes:
    """Draw the samples as a JPEG, two pictures to a row. The same samples give the same bytes."""
    columns = min(2, len(samples))
    rows = -(-len(samples) // 2)
    width = GAP + columns * (CELL + GAP)
    sheet = Image.new("RGB", (width, GAP + LINE + GAP + rows * (CELL + LINE + GAP)), PAPER)
    pen = ImageDraw.Draw(sheet)
    _write(pen, title, at=(GAP, GAP), width=width - 2 * GAP, size=22, ink=INK)
    for number, sample in enumerate(samples):
        left = GAP + (number % 2) * (CELL + GAP)
        top = GAP + LINE + GAP + (number // 2) * (CELL + LINE + GAP)
        picture = _fitted(sample.content)
        sheet.paste(picture, (left + (CELL - picture.width) // 2, top + (CELL - picture.height) // 2))
        _write(pen, sample.label, at=(left, top + CELL + 6), width=CELL, size=17, ink=FADED)
    out = BytesIO()
    sheet.save(out, "JPEG", quality=90)
    return out.getvalue()


def _fitted(content: bytes) -> Image.Image:
    with open_picture(content) as image:
        image.draft("RGB", (CELL, CELL))
        return ImageOps.contain(plain(image).convert("RGB"), (CELL, CELL), Image.Resampling.LANCZOS)


def _write(
    pen: ImageDraw.ImageDraw, text: str, *, at: tuple[int, int], width: int, size: int, ink: tuple[int, int, int]
) -> None:
    """Write one line, cut where there is no more room."""
    font = ImageFont.truetype(str(font_file()), size)
    line = " ".join(text.split())
    while pen.textlength(line, font=font) > width:
        line = f"{line.rstrip('…')[:-1].rstrip()}…"
    pen.text(at, line, font=font, fill=ink)
