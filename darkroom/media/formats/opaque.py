"""Files that we keep and do not read: 3D, fonts, subtitles, documents, and whatever models come to make.

A type is told by the first bytes where that is sure; whatever else it may be is served as a download, never shown.
"""

from __future__ import annotations

import json

from darkroom.media.formats.files import Kind, Media, whole

MOST_JSON_BYTES = 4 << 20
UNKNOWN = ("application/octet-stream", "bin")
BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (b"glTF", "model/gltf-binary", "glb"),
    (b"ply\n", "model/ply", "ply"),
    (b"Kaydara FBX Binary", "application/octet-stream", "fbx"),
    (b"%PDF-", "application/pdf", "pdf"),
    (b"GIF8", "image/gif", "gif"),
    (b"\x1a\x45\xdf\xa3", "video/webm", "webm"),
    (b"OggS", "audio/ogg", "ogg"),
    (b"fLaC", "audio/flac", "flac"),
    (b"wOF2", "font/woff2", "woff2"),
    (b"wOFF", "font/woff", "woff"),
    (b"OTTO", "font/otf", "otf"),
    (b"\x00\x01\x00\x00", "font/ttf", "ttf"),
    (b"\x1f\x8b", "application/gzip", "gz"),
    (b"PK\x03\x04", "application/zip", "zip"),
    (b"WEBVTT", "text/vtt", "vtt"),
    (b"1\n00:", "application/x-subrip", "srt"),
    (b"1\r\n00:", "application/x-subrip", "srt"),
)


def known_kind(content: bytes, *, size: int | None = None) -> Kind | None:
    """Return what a file is by its first bytes, of the kinds that are read to their end; None for others.

    `size` of the file, where these are its first bytes alone.
    """
    if content.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")) or _is_riff(content, b"WEBP"):
        return Kind.IMAGE
    if content[4:8] == b"ftyp":
        return _of_boxes(content)
    # An MPEG frame begins with eleven bits that are set.
    is_frame = content[:1] == b"\xff" and content[1:2] != b"" and content[1] & 0xE0 == 0xE0
    if content.startswith(b"ID3") or is_frame or _is_riff(content, b"WAVE"):
        return Kind.AUDIO
    if content.startswith(b"PK\x03\x04"):
        return Kind.ARCHIVE
    # Safetensors: the length of a header, and its brace (`trained.py`).
    if content[8:9] == b"{" and 2 <= int.from_bytes(content[:8], "little") < min(
        len(content) if size is None else size, 16 << 20
    ):
        return Kind.WEIGHTS
    return None


def opaque(content: bytes) -> Media:
    """Describe a file whose content nobody has read."""
    content_type, extension = type_of(content)
    if (content_type, extension) == UNKNOWN and _is_json(content):
        content_type, extension = "application/json", "json"
    return whole(content, content_type, extension)


def type_of(head: bytes) -> tuple[str, str]:
    """Return the type that a file's first bytes tell, and how its name ends."""
    if head[4:8] == b"ftyp":
        return ("image/avif", "avif") if head[8:12] == b"avif" else _boxes(head)
    if _is_riff(head, b"WAVE"):
        return "audio/wav", "wav"
    if known_kind(head) is Kind.AUDIO:
        return "audio/mpeg", "mp3"
    return next(((kind, ending) for beginning, kind, ending in BEGINNINGS if head.startswith(beginning)), UNKNOWN)


def _boxes(head: bytes) -> tuple[str, str]:
    return ("audio/mp4", "m4a") if _of_boxes(head) is Kind.AUDIO else ("video/mp4", "mp4")


def _of_boxes(content: bytes) -> Kind | None:
    if content[8:12] in (b"avif", b"heic", b"mif1"):
        return None
    return Kind.AUDIO if content[8:11] == b"M4A" else Kind.VIDEO


def _is_riff(content: bytes, name: bytes) -> bool:
    return content.startswith(b"RIFF") and content[8:12] == name


def _is_json(content: bytes) -> bool:
    if len(content) > MOST_JSON_BYTES or content[:1] not in (b"{", b"["):
        return False
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return False
    return True
