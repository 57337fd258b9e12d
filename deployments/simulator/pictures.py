"""Pictures drawn from prompt and seed: layered hills under a glowing sky, with the prompt as a small caption.

The same prompt, seed, size and format give the same bytes.
"""

from __future__ import annotations

import functools
import io
import math
import random
import struct
import zlib
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

Color = tuple[int, int, int]
Points = list[tuple[float, float]]

# Top of the sky, horizon, light, farthest hill, nearest hill.
Palette = tuple[Color, Color, Color, Color, Color]

MEDIA_TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp", "gif": "image/gif"}
EXTENSIONS = {"jpeg": "jpg", "png": "png", "webp": "webp", "gif": "gif"}
_ENCODING: dict[str, dict[str, int]] = {
    "jpeg": {"quality": 90},
    "png": {"compress_level": 3},
    "webp": {"quality": 90},
    "gif": {},
}
# Of a canvas, which is scaled to the size asked for: a large picture costs little more than a middling one, and a small
# one next to nothing.
_LONGEST_EDGE = 640
_SOFT = 1 / 1024  # of a canvas' edge, for each pixel by which an outline is softened
_CAPTION_CHARACTERS = 64
_BOMB_EDGE = 20_000
_PALETTES: tuple[Palette, ...] = (
    ((38, 44, 92), (246, 150, 106), (255, 226, 178), (176, 112, 128), (28, 22, 48)),  # dusk
    ((72, 132, 190), (250, 224, 190), (255, 250, 228), (148, 178, 190), (24, 58, 66)),  # morning
    ((18, 22, 52), (78, 96, 158), (226, 232, 255), (70, 84, 138), (8, 10, 26)),  # moonlight
    ((104, 50, 108), (250, 158, 152), (255, 232, 206), (186, 104, 138), (40, 16, 48)),  # rose
    ((30, 92, 98), (196, 226, 190), (252, 252, 220), (110, 166, 150), (10, 38, 40)),  # sea green
    ((120, 66, 42), (250, 206, 120), (255, 246, 206), (202, 138, 84), (52, 26, 20)),  # desert
    ((66, 70, 104), (214, 204, 220), (255, 248, 244), (150, 148, 178), (34, 34, 56)),  # mist
    ((12, 52, 76), (108, 214, 186), (226, 255, 236), (54, 130, 136), (6, 24, 40)),  # aurora
)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a LoRA does to a picture: its colours, and how much of them (0 to 1)."""

    palette: Palette
    strength: float


@dataclass(frozen=True, kw_only=True)
class Picture:
    prompt: str
    seed: int
    width: int
    height: int
    format: str = "jpeg"
    looks: tuple[Look, ...] = ()


@functools.lru_cache(maxsize=64)
def draw(picture: Picture) -> bytes:
    # By the text itself: a hash of it would differ from process to process.
    rng = random.Random(f"{picture.seed}/{picture.prompt}")
    canvas = _landscape(rng, _canvas_size(picture), picture.looks)
    if canvas.size != (picture.width, picture.height):
        canvas = canvas.resize((picture.width, picture.height), Image.Resampling.BICUBIC)
    _caption(canvas, picture.prompt)
    return encode(canvas, picture.format)


@functools.cache
def pixel_bomb() -> bytes:
    """Make a valid black PNG of 400 million pixels in about 50 KB."""
    # By hand, row by row: Pillow would need 400 MB for it. A row is a filter's byte, and a bit for each pixel.
    rows = b"\0" * (1 + _BOMB_EDGE // 8)
    compressor = zlib.compressobj(9)
    data = b"".join(compressor.compress(rows) for _ in range(_BOMB_EDGE)) + compressor.flush()
    header = struct.pack(">IIBBBBB", _BOMB_EDGE, _BOMB_EDGE, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(name, content) for name, content in chunks)


def _png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _canvas_size(picture: Picture) -> tuple[int, int]:
    scale = min(1.0, _LONGEST_EDGE / max(picture.width, picture.height))
    return max(1, round(picture.width * scale)), max(1, round(picture.height * scale))


def _landscape(rng: random.Random, size: tuple[int, int], looks: tuple[Look, ...]) -> Image.Image:
    top, horizon, light, far, near = _looking(rng.choice(_PALETTES), looks)
    canvas = _sky(size, top, horizon)
    _glow(canvas, rng, light)
    layers = rng.randint(4, 6)
    for layer in range(layers):
        depth = layer / (layers - 1)
        _hill(canvas, rng, _mix(far, near, depth), depth=depth)
    return _grain(canvas)


def _looking(palette: Palette, looks: tuple[Look, ...]) -> Palette:
    for look in looks:
        top, horizon, light, far, near = (
            _mix(own, other, look.strength) for own, other in zip(palette, look.palette, strict=True)
        )
        palette = top, horizon, light, far, near
    return palette


def _sky(size: tuple[int, int], top: Color, horizon: Color) -> Image.Image:
    # The horizon's colour is reached where the hills begin.
    gradient = Image.linear_gradient("L").point(lambda value: min(255, value * 3 // 2)).resize(size)
    return Image.composite(Image.new("RGB", size, horizon), Image.new("RGB", size, top), gradient)


def _glow(canvas: Image.Image, rng: random.Random, color: Color) -> None:
    """Paint a sun: a disc, and its light on the sky around it."""
    width, height = canvas.size
    x, y = width * rng.uniform(0.2, 0.8), height * rng.uniform(0.22, 0.5)
    reach, radius = 0.55 * max(width, height), rng.uniform(0.05, 0.1) * min(width, height)
    # Pillow's gradient is 180 at the middle of its edges; from there outwards there is no light.
    light = Image.radial_gradient("L").point(lambda value: max(0, 180 - value) ** 2 // 200)
    mask = Image.new("L", canvas.size)
    mask.paste(light.resize((int(2 * reach), int(2 * reach))), (int(x - reach), int(y - reach)))
    canvas.paste(color, mask=mask)
    disc = Image.new("L", canvas.size)
    ImageDraw.Draw(disc).ellipse((x - radius, y - radius, x + radius, y + radius), fill=235)
    canvas.paste(color, mask=_softened(disc, 1.2))


def _hill(canvas: Image.Image, rng: random.Random, color: Color, *, depth: float) -> None:
    """Paint a hill: the nearer (depth 1), the lower, the darker and the sharper."""
    width, height = canvas.size
    mask = Image.new("L", canvas.size)
    ridge = _ridge(rng, width, base=height * (0.52 + 0.38 * depth), swing=height * (0.12 - 0.05 * depth))
    ImageDraw.Draw(mask).polygon([(0, height), *ridge, (width, height)], fill=255)
    canvas.paste(color, mask=_softened(mask, 2.2 - 1.4 * depth))


def _softened(mask: Image.Image, radius: float) -> Image.Image:
    return mask.filter(ImageFilter.BoxBlur(radius * _SOFT * max(mask.size)))


def _ridge(rng: random.Random, width: int, *, base: float, swing: float) -> Points:
    waves = [(rng.uniform(0.6, 1.4) * octave, rng.uniform(0, math.tau), 1 / octave) for octave in (1, 2, 5, 11)]

    def height_at(x: float) -> float:
        return base - swing * sum(a * math.sin(math.tau * f * x / width + phase) for f, phase, a in waves)

    return [(x, height_at(x)) for x in range(0, width + 4, 4)]


def _grain(canvas: Image.Image) -> Image.Image:
    """Add a fixed fine pattern, which keeps gradients from showing bands."""
    return ImageChops.add(canvas, _noise(canvas.size), offset=-4)  # of 0 to 8, so that it gets no brighter


@functools.lru_cache(maxsize=8)
def _noise(size: tuple[int, int]) -> Image.Image:
    grain = Image.frombytes("L", (512, 512), bytes(byte % 9 for byte in random.Random(0).randbytes(512 * 512)))
    return Image.merge("RGB", [grain.resize(size, Image.Resampling.NEAREST)] * 3)


def _caption(canvas: Image.Image, prompt: str) -> None:
    text = " ".join(prompt.split())
    if len(text) > _CAPTION_CHARACTERS:
        text = text[: _CAPTION_CHARACTERS - 1].rstrip() + "…"
    size = max(9.0, min(min(canvas.size) / 40, 28.0))
    place = (size, canvas.height - size)
    pen = ImageDraw.Draw(canvas)
    pen.text(place, text, font=ImageFont.load_default(size), fill=(255, 255, 255), anchor="lb")


def encode(canvas: Image.Image, image_format: str) -> bytes:
    buffer = io.BytesIO()
    canvas.save(buffer, format=image_format, **_ENCODING[image_format])
    return buffer.getvalue()


def _mix(first: Color, second: Color, share: float) -> Color:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue
