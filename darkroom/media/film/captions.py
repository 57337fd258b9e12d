"""Captions: who says what from when to when, and the file FFmpeg reads them from (ASS, drawn by libass).

In their own file they never touch a command line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from darkroom.errors import Permanent
from darkroom.media.fonts import FAMILY

# Names are drawn in these, in order of appearance; readable on the dark box the words stand on.
COLOURS = ("ffd166", "7bdff2", "b8f2a0", "f7a8c4")
_LEAST_PAUSE_SECONDS = 0.05
_WORD_JOINER = "\u2060"  # no width, and ends what the renderer would read as a command


@dataclass(frozen=True, kw_only=True)
class Caption:
    """What is said, by whom, in seconds of the film."""

    speaker: str
    text: str
    start: float
    end: float


def spread(lines: Sequence[tuple[str, str]], seconds: float) -> list[Caption]:
    """Give (speaker, text) lines their time in a sound of so many seconds: as much as they have letters."""
    # A voice that reads them evenly is then seldom a second away from its caption.
    letters = sum(len(text) for _, text in lines)
    captions, begun = [], 0
    for speaker, text in lines:
        start, end = begun / letters * seconds, (begun + len(text)) / letters * seconds
        captions.append(Caption(speaker=speaker, text=text, start=start, end=end - _LEAST_PAUSE_SECONDS))
        begun += len(text)
    return captions


def check(captions: Iterable[Caption], seconds: float) -> None:
    """Raise Permanent for a caption nobody would see."""
    for caption in captions:
        if not 0 <= caption.start < caption.end <= seconds or not caption.text.strip():
            raise Permanent("a caption is empty, or lies outside the film", code="caption_unseen")


def written(captions: Sequence[Caption], *, width: int, height: int) -> str:
    """Write the captions as an ASS file for a film of so many pixels."""
    speakers = list(dict.fromkeys(caption.speaker for caption in captions))
    colours = {speaker: COLOURS[n % len(COLOURS)] for n, speaker in enumerate(speakers)}
    size, margin = max(14, min(width, height) // 18), width // 16
    head = f"""\
[Script Info]
ScriptType: v4.00+
PlayResX: {width}
PlayResY: {height}
WrapStyle: 0
ScaledBorderAndShadow: yes

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, OutlineColour, BackColour, Bold, BorderStyle, Outline, Shadow, \
Alignment, MarginL, MarginR, MarginV
Style: Line,{FAMILY},{size},&H00FFFFFF,&H50000000,&H50000000,0,4,0,{size // 4},2,{margin},{margin},{height // 18}

[Events]
Format: Layer, Start, End, Style, Text
"""
    return head + "".join(_event(caption, colours[caption.speaker]) for caption in captions)


def _event(caption: Caption, colour: str) -> str:
    name = rf"{{\b1\c&H{_reversed(colour)}&}}{_plain(caption.speaker)}{{\r}}"
    return f"Dialogue: 0,{_clock(caption.start)},{_clock(caption.end)},Line,{name}\\N{_plain(caption.text)}\n"


def _plain(text: str) -> str:
    """Put the text on one line, with nothing in it the renderer takes for a command."""
    shown = "".join(letter for letter in " ".join(text.split()) if letter.isprintable())
    # A brace would begin a command to the renderer, and a backslash a break.
    return shown.replace("\\", "\\" + _WORD_JOINER).replace("{", r"\{").replace("}", r"\}")


def _reversed(rgb: str) -> str:
    """Turn a colour around, as ASS writes blue, green, red."""
    return rgb[4:6] + rgb[2:4] + rgb[0:2]


def _clock(seconds: float) -> str:
    hundredths = round(seconds * 100)
    return f"{hundredths // 360_000}:{hundredths // 6000 % 60:02}:{hundredths // 100 % 60:02}.{hundredths % 100:02}"
