"""The weights of a LoRA, as small as they can be and still be a real safetensors file.

What is in the tensors means nothing; what it learnt, the colours of its pictures, stands in the header's metadata.
"""

from __future__ import annotations

import colorsys
import hashlib
import json
import random
from collections.abc import Mapping

from PIL import Image

from .pictures import Color, Palette

_RANK = 4
_WIDTH = 3072  # of FLUX.1's transformer
_BLOCKS = ("single_transformer_blocks.0", "single_transformer_blocks.1")
_LAYERS = ("attn.to_k", "attn.to_q", "attn.to_v", "proj_mlp")
_BYTES_PER_VALUE = 2
# Every bfloat16 has one of these for its upper byte: numbers around 0.01, of either sign.
_UPPER_BYTES = bytes(0x3C | value & 0x80 for value in range(256))
_MAX_HEADER_BYTES = 1024**2
_LEARNT = "palette"
_COLORS = 5
_SAMPLE_EDGE = 32


class NotWeights(Exception):
    """The file cannot be read as safetensors."""


def weights(*, seed: str, palette: Palette) -> bytes:
    """Make the weights of a LoRA. The same seed gives the same bytes."""
    header: dict[str, object] = {"__metadata__": {"format": "pt", _LEARNT: json.dumps(palette)}}
    offset = 0
    for name, shape in _tensors().items():
        size = shape[0] * shape[1] * _BYTES_PER_VALUE
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8
    # A safetensors file: the header's length in eight bytes, the header, the tensors.
    return len(text).to_bytes(8, "little") + text + _values(seed, offset)


def palette_of_weights(content: bytes) -> Palette:
    """Return what the LoRA learnt. Raise NotWeights."""
    metadata = _metadata(content)
    if _LEARNT not in metadata:  # trained elsewhere
        return palette_by_chance(hashlib.sha256(content).hexdigest())
    try:
        return _palette([(red, green, blue) for red, green, blue in json.loads(str(metadata[_LEARNT]))])
    except (ValueError, TypeError) as error:
        raise NotWeights("the metadata cannot be read") from error


def palette_of_pictures(pictures: list[Image.Image]) -> Palette:
    """Return the colours that the pictures have most of."""
    sheet = Image.new("RGB", (_SAMPLE_EDGE * len(pictures), _SAMPLE_EDGE))
    for number, picture in enumerate(pictures):
        sample = picture.convert("RGB").resize((_SAMPLE_EDGE, _SAMPLE_EDGE), Image.Resampling.BOX)
        sheet.paste(sample, (number * _SAMPLE_EDGE, 0))
    values = sheet.quantize(_COLORS).getpalette() or []
    found = [(values[n], values[n + 1], values[n + 2]) for n in range(0, len(values) - 2, 3)][:_COLORS]
    return _palette(found)


def _palette(colors: list[Color]) -> Palette:
    """Five colours in the order of a landscape: its light is the brightest, what is near the darkest."""
    if not colors:
        raise ValueError("no colours")
    ranked = sorted(colors, key=sum)
    near, top, far, horizon, light = (ranked[n * len(ranked) // _COLORS] for n in range(_COLORS))
    return top, horizon, light, far, near


def palette_by_chance(seed: str) -> Palette:
    """Return five shades of one colour, by the seed."""
    rng = random.Random(seed)
    hue = rng.random()
    shades = [colorsys.hsv_to_rgb((hue + rng.uniform(-0.08, 0.08)) % 1, 0.75, value / 5) for value in range(1, 6)]
    return _palette([(int(255 * red), int(255 * green), int(255 * blue)) for red, green, blue in shades])


def _tensors() -> dict[str, tuple[int, int]]:
    shapes = {}
    for block in _BLOCKS:
        for layer in _LAYERS:
            shapes[f"transformer.{block}.{layer}.lora_A.weight"] = (_RANK, _WIDTH)
            shapes[f"transformer.{block}.{layer}.lora_B.weight"] = (_WIDTH, _RANK)
    return shapes


def _values(seed: str, size: int) -> bytes:
    rng = random.Random(seed)
    # Little-endian: the second byte of each value is its upper one.
    values = bytearray(size)
    values[0::2] = rng.randbytes(size // 2)
    values[1::2] = rng.randbytes(size // 2).translate(_UPPER_BYTES)
    return bytes(values)


def _metadata(content: bytes) -> Mapping[str, object]:
    # What a client uploaded may be anything, and this any number. The shortest header is `{}`.
    length = int.from_bytes(content[:8], "little")
    if not 2 <= length <= min(_MAX_HEADER_BYTES, len(content) - 8):
        raise NotWeights("not a safetensors file")
    try:
        metadata = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    except (ValueError, AttributeError) as error:
        raise NotWeights("the header is not a JSON object") from error
    return metadata if isinstance(metadata, dict) else {}
