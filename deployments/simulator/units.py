"""How many billable units a request was, by what its card is charged by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from .book import Entry
from .cards.card import Card
from .sizes import Arguments, megapixels

_LONG_FILM_SECONDS = 8  # seen in charges for Topaz: ten units for 3 to 8 s, twenty for 9 s
_CHARACTERS_PER_TOKEN = 4  # a rule of thumb: nothing here counts tokens


@dataclass(frozen=True, kw_only=True)
class MeasuredFile:
    kind: str
    width: int = 0
    height: int = 0
    seconds: float = 0


@dataclass(kw_only=True)
class Measured:
    """What came out of a request, and how much it was given."""

    files: list[MeasuredFile] = field(default_factory=list)
    input_seconds: float = 0
    characters: int = 0

    def add(self, kind: str, *, width: int = 0, height: int = 0, seconds: float = 0) -> None:
        self.files.append(MeasuredFile(kind=kind, width=width, height=height, seconds=seconds))

    def count(self, *kinds: str) -> int:
        return sum(file.kind in kinds for file in self.files)

    @property
    def seconds(self) -> float:
        return sum(file.seconds for file in self.files)

    @property
    def processed(self) -> float:
        """Return the megapixels to the fraction."""
        return sum(file.width * file.height for file in self.files) / 1_000_000

    @property
    def tokens(self) -> float:
        return self.characters / _CHARACTERS_PER_TOKEN


def units_of(card: Card, entry: Entry, arguments: Arguments, measured: Measured) -> str:
    """Return the header's text. A unit that is not known here counts requests."""
    # fal's words for units are an open list, and some have been seen with a blank at their end.
    count = _COUNTS.get(card.unit.strip().lower(), _one)
    return _text(count(card, entry, arguments, measured))


def _text(value: float | Decimal) -> str:
    # Fractions occur at fal: 3.008 for a film of three seconds.
    rounded = f"{value:.4f}"
    return rounded.rstrip("0").rstrip(".")


def _one(card: Card, entry: Entry, arguments: Arguments, measured: Measured) -> float:
    return 1


def _megapixels(card: Card, entry: Entry, arguments: Arguments, measured: Measured) -> float:
    return sum(megapixels(file.width, file.height) for file in measured.files if file.kind == "image")


def _seconds(card: Card, entry: Entry, arguments: Arguments, measured: Measured) -> float:
    return measured.seconds


def _units(card: Card, entry: Entry, arguments: Arguments, measured: Measured) -> float:
    """Return what fal calls a unit of this model: its card says how many a file is, a long film is twice that."""
    return float(card.units_per_file) * sum(2 if file.seconds > _LONG_FILM_SECONDS else 1 for file in measured.files)


def _steps(card: Card, entry: Entry, arguments: Arguments, measured: Measured) -> float:
    return int(arguments.get("steps", arguments.get("number_of_steps", 1)))


_Count = Callable[[Card, Entry, Arguments, Measured], float]
_COUNTS: Mapping[str, _Count] = {
    # fal's specification has the singular in its example, its price list the plural.
    "image": lambda card, entry, arguments, measured: measured.count("image"),
    "images": lambda card, entry, arguments, measured: measured.count("image"),
    "megapixel": _megapixels,
    "megapixels": _megapixels,
    "processed megapixels": lambda card, entry, arguments, measured: measured.processed,
    "second": _seconds,
    "seconds": _seconds,
    "minutes": lambda card, entry, arguments, measured: measured.seconds / 60,
    "videos": lambda card, entry, arguments, measured: measured.count("mp4"),
    "audios": lambda card, entry, arguments, measured: measured.count("wav", "mp3"),
    "1000 characters": lambda card, entry, arguments, measured: measured.characters / 1000,
    "1000 tokens": lambda card, entry, arguments, measured: measured.tokens / 1000,
    "1m tokens": lambda card, entry, arguments, measured: measured.tokens / 1_000_000,
    "compute seconds": lambda card, entry, arguments, measured: entry.seconds,  # here: the latency
    "input seconds": lambda card, entry, arguments, measured: measured.input_seconds,
    "steps": _steps,
    "units": _units,
}
