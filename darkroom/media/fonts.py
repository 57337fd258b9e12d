"""The one font we write with, on pictures and films: Noto Sans, Latin, Greek and Cyrillic, from a wheel.

A machine of ours need not have any font, and Pillow's own knows ASCII alone: no name with an umlaut.
"""

from __future__ import annotations

from pathlib import Path

from fontpkg_noto_sans import FAMILY, ROOT

__all__ = ["FAMILY", "font_file"]


def font_file() -> Path:
    """Return the path of a TrueType file of variable weight."""
    path: Path = ROOT / "files" / "NotoSans[wdth,wght].ttf"
    return path
