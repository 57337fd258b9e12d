"""What a training leaves: weights (safetensors) and the config beside them (JSON). Read without loading a tensor.

Safetensors (github.com/huggingface/safetensors, "Format"): eight bytes with the length of a header, little-endian; the
header, a JSON object that gives each tensor its place in what follows; the tensors, without a gap between them.
"""

from __future__ import annotations

import json
import os
from io import BytesIO
from typing import IO, Any

from darkroom.errors import Refused, Unverified
from darkroom.media.formats.files import Media, whole

MAX_HEADER_BYTES = 16 * 1024 * 1024  # a LoRA's has some 100 kB; the format's own limit is 100 MB
MAX_CONFIG_BYTES = 1024 * 1024


WEIGHTS = ("application/octet-stream", "safetensors")


def weights(content: bytes) -> Media:
    require_weights(BytesIO(content))
    return whole(content, *WEIGHTS)


def require_weights(file: IO[bytes]) -> None:
    """Raise Refused for what is not safetensors, Unverified for what is not whole."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= MAX_HEADER_BYTES or not (header := file.read(length)).startswith(b"{"):
        raise Refused("the file is not safetensors", code="wrong_type")
    if _end(_object(header)) != size - 8 - length:
        raise Unverified("the weights are not as long as their header says")


def config(content: bytes) -> Media:
    if len(content) > MAX_CONFIG_BYTES:
        raise Refused(f"the config is larger than {MAX_CONFIG_BYTES} bytes", code="too_large")
    if not content.lstrip().startswith(b"{"):
        raise Refused("the file is not a JSON object", code="wrong_type")
    _object(content)
    return whole(content, "application/json", "json")


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:  # not UTF-8, or not JSON
        raise Unverified("the file's JSON is not whole") from error
    except RecursionError as error:
        raise Refused("the file's JSON is nested too deeply", code="wrong_type") from error
    assert isinstance(found, dict)  # it begins with a brace
    return found


def _end(header: dict[str, Any]) -> int:
    """Return where the last tensor ends, in bytes after the header.

    Raise Refused unless each begins where the one before it ends.
    """
    end = 0
    # The format has no gaps: what lies in one, or is read twice, is no tensor.
    for start, stop in sorted(_place(entry) for name, entry in header.items() if name != "__metadata__"):
        if start != end or stop < start:
            raise Refused("the weights overlap, or leave gaps", code="wrong_type")
        end = stop
    return end


def _place(entry: Any) -> tuple[int, int]:
    match entry:
        case {"data_offsets": [int(start), int(stop)]}:
            return start, stop
    raise Refused("the weights' header is not that of safetensors", code="wrong_type")
