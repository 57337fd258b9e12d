"""What is known of a model at fal: what it accepts, what comes back, what it costs and how long it may take.

fal does not look at an input when it is submitted and silently ignores fields it does not know, so a wrong one would be
found out a minute later, or never. Here it is found before anything is queued.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import ROUND_CEILING, Decimal
from enum import Enum
from functools import lru_cache
from typing import Any, Self

from pydantic import BaseModel, ValidationError

from darkroom.errors import BadInput, Permanent
from darkroom.media.formats import Kind, RemoteFile
from darkroom.models import Card, Estimate, Path, file_places, is_a_count, packaged_cards
from darkroom.providers.fal.inputs import PRESETS

# fal's price list gives one megapixel for 1024 × 1024.
MEGAPIXEL = Decimal(1024 * 1024)
CENT_FRACTION = Decimal("0.000001")
FILE_HOSTS = re.compile(rb"(?:[a-z0-9-]+\.)*fal\.media")
MAX_FILES = 16
PICTURES: Mapping[str, Kind] = {"images": Kind.IMAGE}
PICTURE: Mapping[str, Kind] = {"image": Kind.IMAGE}
REMEDIES = {
    "seed": "it has no seed: leave the field out, or use fal-ai/flux/dev",
    "sync_mode": "Darkroom always collects files: leave the field out",
}


Size = tuple[int, int]


class Unit(Enum):
    """What fal counts."""

    MEGAPIXEL = "megapixel"  # of each picture that comes back, rounded up
    IMAGE = "image"  # each picture, whatever its size
    FILM_SECOND = "film second"  # of the film that comes back
    COMPUTE_SECOND = "compute second"  # of the machine; a guess until fal has counted
    RUN = "run"


@dataclass(frozen=True, kw_only=True)
class Model:
    """`outputs`: where its answer has files, one or a list, and of what kind. `usual_seconds`: of compute.

    `picture_prices`: by quality, what a picture comes to where the units of the card do not tell; under "" any other.
    `card`: what it is priced by; None for the packaged one.
    """

    endpoint: str
    title: str
    input: type[BaseModel]
    unit: Unit
    expected: timedelta
    start_timeout: timedelta
    deadline: timedelta
    picture_prices: Mapping[str, Decimal] = field(default_factory=dict)
    outputs: Mapping[str, Kind] = field(default_factory=lambda: PICTURES)
    usual_seconds: int = 0
    account_id: str = "fal"
    card: Card | None = None
    makes_pictures: bool = True

    def with_card(self, card: Card, *, own_time: timedelta | None = None) -> Self:
        """Return the model at the price of that card. `own_time`: within which nearly all of our calls have ended."""
        if own_time is None:
            return replace(self, card=card)
        deadline = max(self.deadline, self.start_timeout + 4 * own_time)
        return replace(self, card=card, expected=own_time, deadline=deadline)

    @property
    def input_schema(self) -> Mapping[str, Any]:
        return _schema_of(self.input)

    def file_places(self, input: Mapping[str, Any]) -> list[Path]:
        """Return the paths at which an input names files."""
        schema = (self.card or packaged_cards()[self.endpoint]).input_schema or {}
        return [path for path, _ in file_places(schema, input)]

    @property
    def counted_by_provider(self) -> bool:
        """Return whether only fal knows what a call has come to."""
        card = self.card or packaged_cards()[self.endpoint]
        return not is_a_count(card.unit or "", category=card.category)

    @property
    def unit_price(self) -> Decimal:
        card = self.card if self.card and self.card.unit_price is not None else packaged_cards()[self.endpoint]
        assert card.unit_price is not None
        return card.unit_price

    def validate(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the input to send: only what was given, so that fal's defaults stay fal's. Raise BadInput."""
        try:
            checked = self.input.model_validate(dict(arguments))
        except ValidationError as error:
            # Not `from error`: pydantic's text quotes the prompt, and a logged traceback would show it.
            raise self._bad_input(error) from None
        return checked.model_dump(mode="json", exclude_unset=True)

    def estimate(self, input: Mapping[str, Any], *, size: Size | None = None) -> Decimal:
        """Return the most this input should cost, in USD. `size`: of the pictures to come, if that is known."""
        return self.quote(input, size=size).usd

    def quote(self, input: Mapping[str, Any], *, size: Size | None = None) -> Estimate:
        """Return the most this input should cost, and how that is known."""
        full = self.input.model_validate(dict(input))
        units = self._asked_units(full, size or _asked_size(full))
        is_listed = not (self.picture_prices or self.unit is Unit.COMPUTE_SECOND)
        return Estimate(
            usd=_money(units * self._price(full)),
            source="list_price" if is_listed else "guess",
            units=units,
            unit=self.unit.value,
            unit_price_usd=self._price(full),
        )

    def size(self, input: Mapping[str, Any]) -> Size:
        """Return width and height in pixels of the pictures to come, as far as the input tells."""
        return _asked_size(self.input.model_validate(dict(input)))

    def cost(self, input: Mapping[str, Any], output: Mapping[str, Any], billable_units: Decimal | None) -> Decimal:
        """Return what a finished request cost.

        That is by fal's own count where it is known, else by what was asked and what came.
        """
        if billable_units is not None:
            return _money(billable_units * self.unit_price)
        full = self.input.model_validate(dict(input))
        return _money(self._units_that_came(full, output) * self._price(full))

    def files(self, output: Mapping[str, Any]) -> list[RemoteFile]:
        """Return the files of an output. Raise Permanent(code="unexpected_output") where there are none to find."""
        return [file for name, kind in self.outputs.items() for file in self._files(name, output.get(name), kind)]

    def _files(self, name: str, found: object, kind: Kind) -> Iterator[RemoteFile]:
        each = found if isinstance(found, list) else [found]
        if not 1 <= len(each) <= MAX_FILES:
            raise Permanent(f"{self.endpoint} returned {len(each)} files in `{name}`", code="unexpected_output")
        for file in each:
            if not isinstance(file, dict) or not _is_https(file.get("url")):
                raise Permanent(f"{self.endpoint} returned no web address in `{name}`", code="unexpected_output")
            content_type = file.get("content_type")
            yield RemoteFile(
                url=file["url"],
                hosts=FILE_HOSTS,
                kind=kind,
                content_type=content_type if isinstance(content_type, str) else None,
                width=_positive(file.get("width")),
                height=_positive(file.get("height")),
            )

    def _asked_units(self, full: BaseModel, size: Size) -> Decimal:
        match self.unit:
            case Unit.MEGAPIXEL | Unit.IMAGE:
                return self._picture_units(*size) * int(getattr(full, "num_images", 1))
            case Unit.FILM_SECOND:
                return Decimal(str(getattr(full, "duration", 0)))
            case Unit.COMPUTE_SECOND:
                return Decimal(self.usual_seconds)
            case Unit.RUN:
                return Decimal(1)

    def _units_that_came(self, full: BaseModel, output: Mapping[str, Any]) -> Decimal:
        asked = _asked_size(full)
        if self.unit not in (Unit.MEGAPIXEL, Unit.IMAGE):
            return self._asked_units(full, asked)
        files = self.files(output)
        return sum((self._picture_units(file.width or asked[0], file.height or asked[1]) for file in files), Decimal(0))

    def _picture_units(self, width: int, height: int) -> Decimal:
        if self.unit is Unit.IMAGE:
            return Decimal(1)
        return (Decimal(width * height) / MEGAPIXEL).to_integral_value(ROUND_CEILING)

    def _price(self, full: BaseModel) -> Decimal:
        usual = self.picture_prices.get("", self.unit_price)
        return self.picture_prices.get(str(getattr(full, "quality", "")), usual)

    def _bad_input(self, error: ValidationError) -> BadInput:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        # The tags of a union are part of pydantic's path, not of the caller's.
        path = ".".join(str(part) for part in first["loc"] if part not in ("preset", "custom"))[:100]
        if first["type"] != "extra_forbidden":
            return BadInput(f"{path}: {first['msg']}", field=path)
        remedy = REMEDIES.get(path) or f"leave it out; it accepts {', '.join(self.input.model_fields)}"
        return BadInput(f"{self.endpoint} does not accept {path}: {remedy}", field=path)


def _asked_size(full: BaseModel) -> Size:
    """Return the size of the picture to come.

    One that is made larger is taken for a megapixel: only by how much is known here.
    """
    size = getattr(full, "image_size", None)
    if isinstance(size, BaseModel):
        return size.width, size.height  # type: ignore[attr-defined]
    width, height = PRESETS.get(str(size), PRESETS["square_hd"])
    factor = getattr(full, "upscale_factor", 1)
    return round(width * factor), round(height * factor)


@lru_cache(64)  # of the code's own
def _schema_of(input: type[BaseModel]) -> Mapping[str, Any]:
    return input.model_json_schema()


def _positive(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _is_https(url: object) -> bool:
    return isinstance(url, str) and url.startswith("https://")


def _money(amount: Decimal) -> Decimal:
    return amount.quantize(CENT_FRACTION)
