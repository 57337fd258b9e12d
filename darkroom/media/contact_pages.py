"""The pictures of a batch on numbered pages: what a person looks at to choose winners among hundreds.

Numbers are those of the manifest's rows, from 1, and what is typed to choose. Rows that failed are marked in red with
the code of their error; what cannot be seen, as sound, has its kind in grey. Pictures come one at a time and are
decoded small, so a page takes the memory of the page (57 MB at most), whatever their number and size.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont

from darkroom.media.fonts import font_file
from darkroom.media.formats.pictures import open_picture
from darkroom.media.formats.pixels import plain

MOST_ON_PAGE = 500
LARGEST_BYTES = 4 * 1024 * 1024
QUALITIES = (85, 75, 65, 55, 45, 35)  # of JPEG, until it is small enough
UNREADABLE = "unreadable"

GAP = 14
TITLE = 44  # the height of what is above the pictures
STRIP = 44  # … and of what is under each
NUMBER, LABEL, REASON = 22, 13, 15  # heights of letters, all in pixels
FRAME = 5
LONGEST_LABEL = 60  # characters of which the last ones are shown: there ids differ
REDUCING_GAP = 2.0  # how much larger than asked a cheap reduction leaves it for the good one; as Pillow's thumbnails

NOBODY_HAS = "\U0010ffff"  # not a character

PAPER, GROUND, INK, FADED = (250, 250, 248), (228, 228, 226), (24, 24, 24), (85, 85, 85)
RED, PALE_RED = (196, 22, 28), (253, 232, 232)

Colour = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A row. `number`: from 1. `label`: the user's id of it. Without a picture, what it is or why there is nothing.

    `kind`: the word for what came and cannot be seen, e.g. sound. `reason`: the code of its error.
    """

    number: int
    label: str | None = None
    content: bytes | None = None  # verified before
    kind: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """How pages are laid out: few pictures are shown larger."""

    columns: int
    side: int  # of the square that a picture lies in, in pixels

    @property
    def step(self) -> tuple[int, int]:
        return self.side + GAP, self.side + STRIP + GAP

    def size(self, count: int) -> tuple[int, int]:
        """Return the width and height in pixels of a page of so many pictures."""
        lines = -(-count // self.columns)
        return GAP + self.columns * self.step[0], GAP + TITLE + lines * self.step[1]

    def place(self, position: int) -> tuple[int, int]:
        line, column = divmod(position, self.columns)
        return GAP + column * self.step[0], GAP + TITLE + line * self.step[1]


SMALL, LARGE = Grid(columns=10, side=160), Grid(columns=5, side=334)
MOST_LARGE = 60


def page_ranges(total: int) -> list[range]:
    """Divide the positions among pages: as few pages as can be, equally full, in full lines."""
    pages = -(-total // MOST_ON_PAGE)
    if pages == 0:
        return []
    each = -(-total // pages)
    each = min(MOST_ON_PAGE, -(-each // SMALL.columns) * SMALL.columns)
    return [range(start, min(start + each, total)) for start in range(0, total, each)]


def grid_of(count: int) -> Grid:
    return LARGE if count <= MOST_LARGE else SMALL


def draw_page(entries: Iterable[Entry], *, count: int, title: str) -> bytes:
    """Draw a page as a JPEG of at most 4 MiB. `entries`: `count` of them, read one after the other."""
    grid = grid_of(count)
    page = _Page(Image.new("RGB", grid.size(count), PAPER), grid)
    page.write(title, at=(GAP, GAP), size=24, ink=INK, width=grid.size(count)[0] - 2 * GAP)
    for position, entry in enumerate(entries):
        page.draw(entry, *grid.place(position))
    return _jpeg(page.image)


class _Page:
    def __init__(self, image: Image.Image, grid: Grid) -> None:
        self.image = image
        self._grid = grid
        self._pen = ImageDraw.Draw(image)
        # Of this page alone: FreeType's fonts are not for several threads.
        self._fonts: dict[tuple[int, bool], ImageFont.FreeTypeFont] = {}
        self._box = self._shape(NOBODY_HAS)
        self._shapes: dict[str, bool] = {}

    def draw(self, entry: Entry, left: int, top: int) -> None:
        side = self._grid.side
        small = _small(entry.content, side) if entry.content is not None else None
        is_there = small is not None or (entry.content is None and bool(entry.kind))
        if is_there:
            self._pen.rectangle((left, top, left + side - 1, top + side - 1), fill=GROUND)
        if not is_there:
            self._mark(entry.reason if entry.content is None else UNREADABLE, left, top)
        elif small is None:
            self._say(entry.kind, left, top + side // 2 - REASON, ink=FADED)
        else:
            place = (left + (side - small.width) // 2, top + (side - small.height) // 2)
            self.image.paste(small, place, small if small.mode == "RGBA" else None)
        ink = INK if is_there else RED
        self.write(str(entry.number), at=(left, top + side), size=NUMBER, ink=ink, width=side, bold=True)
        if entry.label:
            label = entry.label[-LONGEST_LABEL:]
            self.write(label, at=(left, top + side + 26), size=LABEL, ink=FADED, width=side, keep_end=True)

    def write(
        self,
        text: str,
        *,
        at: tuple[int, int],
        size: int,
        ink: Colour,
        width: int,
        bold: bool = False,
        keep_end: bool = False,
    ) -> None:
        """Write one line, cut where there is no more room."""
        font = self._font(size, bold=bold)
        line = "".join(each if self._has_shape(each) else "?" for each in " ".join(text.split()))
        while self._pen.textlength(line, font=font) > width and len(line) > 1:
            line = f"…{line.lstrip('…')[1:]}" if keep_end else f"{line.rstrip('…')[:-1]}…"
        self._pen.text(at, line, font=font, fill=ink)

    def _mark(self, reason: str, left: int, top: int) -> None:
        """Draw a red frame, a cross, and the reason: seen from afar, and on paper without colours."""
        side, middle = self._grid.side, top + self._grid.side // 2 - 16
        box = (left, top, left + side - 1, top + side - 1)
        self._pen.rectangle(box, fill=PALE_RED, outline=RED, width=FRAME)
        arm, centre = 22, left + side // 2
        for slant in (-1, 1):
            self._pen.line((centre - arm, middle - slant * arm, centre + arm, middle + slant * arm), fill=RED, width=9)
        self._say(reason or "failed", left, middle + arm + 12, ink=RED)

    def _say(self, words: str, left: int, top: int, *, ink: Colour) -> None:
        """Write words in the middle of a row's square, in at most three lines."""
        side = self._grid.side
        for number, line in enumerate(_lines(words)):
            room = (side - self._pen.textlength(line, font=self._font(REASON, bold=True))) / 2
            place = (left + max(FRAME + 2, round(room)), top + number * (REASON + 4))
            self.write(line, at=place, size=REASON, ink=ink, width=side - 2 * FRAME - 4, bold=True)

    def _has_shape(self, character: str) -> bool:
        """Return whether our font has the character: it draws one and the same box for all that it does not have."""
        if character not in self._shapes:
            self._shapes[character] = character.isprintable() and self._shape(character) != self._box
        return self._shapes[character]

    def _shape(self, character: str) -> bytes:
        return bytes(self._font(LABEL, bold=False).getmask(character))

    def _font(self, size: int, *, bold: bool) -> ImageFont.FreeTypeFont:
        if (size, bold) not in self._fonts:
            font = ImageFont.truetype(str(font_file()), size)
            font.set_variation_by_axes([700 if bold else 400, 100])  # weight, and width in percent
            self._fonts[size, bold] = font
        return self._fonts[size, bold]


def _small(content: bytes, side: int) -> Image.Image | None:
    """Scale a picture down to `side` pixels: RGB, or RGBA where it may be transparent; None where it cannot be."""
    try:
        with open_picture(content) as opened:
            # A JPEG comes out of its decoder at a half, a quarter or an eighth, for a fraction of the work.
            opened.draft("RGB", (round(side * REDUCING_GAP), round(side * REDUCING_GAP)))
            seen = plain(opened)
            image = seen.convert("RGBA" if seen.has_transparency_data else "RGB")
        image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP)
        return image
    # Refused, and whatever Pillow's decoders stumble over in a damaged file: no reason to leave out the page.
    except Exception:
        return None


def _lines(reason: str) -> list[str]:
    """Break a code such as `content_policy_violation` at its underscores into at most three lines."""
    lines = [""]
    for word in reason.replace("_", " ").split()[:9]:
        if lines[-1] and len(lines[-1]) + len(word) > 15 and len(lines) < 3:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _jpeg(image: Image.Image) -> bytes:
    for quality in QUALITIES:
        out = BytesIO()
        image.save(out, "JPEG", quality=quality)
        if out.tell() <= LARGEST_BYTES:
            break
    return out.getvalue()
