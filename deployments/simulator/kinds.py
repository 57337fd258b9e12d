"""Small real files of every kind that models make beside pictures, films and sound."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Iterator

_CHARACTERS_PER_CUE = 32
_SECONDS_PER_CUE = 2
_POSITIONS = struct.pack("<9f", 0, 0, 0, 1, 0, 0, 0, 1, 0)
# By glTF 2.0, 5126 is a float of four bytes and 34962 a buffer of vertices.
_MESH = {
    "asset": {"version": "2.0", "generator": "simulator"},
    "scene": 0,
    "scenes": [{"nodes": [0]}],
    "nodes": [{"mesh": 0}],
    "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
    "accessors": [
        {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3", "min": [0, 0, 0], "max": [1, 1, 0]}
    ],
    "bufferViews": [{"buffer": 0, "byteOffset": 0, "byteLength": len(_POSITIONS), "target": 34962}],
    "buffers": [{"byteLength": len(_POSITIONS)}],
}


def glb(name: str) -> bytes:
    """Make a triangle in binary glTF 2.0."""
    document = json.dumps({**_MESH, "nodes": [{"mesh": 0, "name": name[:64]}]}).encode()
    chunks = _chunk(b"JSON", document, b" ") + _chunk(b"BIN\0", _POSITIONS, b"\0")
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def _chunk(kind: bytes, content: bytes, padding: bytes) -> bytes:
    # Chunks are multiples of four bytes, JSON filled up with blanks and the rest with zeros.
    content += padding * (-len(content) % 4)
    return struct.pack("<I4s", len(content), kind) + content


def srt(text: str) -> bytes:
    cues = (f"{n}\n{_clock(begin, ',')} --> {_clock(end, ',')}\n{said}\n" for n, begin, end, said in _cues(text))
    return "\n".join(cues).encode()


def vtt(text: str) -> bytes:
    cues = (f"{_clock(begin, '.')} --> {_clock(end, '.')}\n{said}\n" for _, begin, end, said in _cues(text))
    return ("WEBVTT\n\n" + "\n".join(cues)).encode()


def archive(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as written:
        for name, content in files.items():
            # Of 1980, as a new entry is: with the time of day the same files would be other bytes.
            written.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


def _cues(text: str) -> Iterator[tuple[int, int, int, str]]:
    pieces = [text[start : start + _CHARACTERS_PER_CUE] for start in range(0, len(text), _CHARACTERS_PER_CUE)]
    for number, piece in enumerate(pieces or ["…"]):
        begin = number * _SECONDS_PER_CUE
        yield number + 1, begin, begin + _SECONDS_PER_CUE, " ".join(piece.split()) or "…"


def _clock(seconds: int, point: str) -> str:
    # SubRip has a comma in front of its milliseconds, WebVTT a point.
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}000"
