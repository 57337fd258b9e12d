"""The models Darkroom sells: what each accepts, what comes back, what it costs and how long it may take.

fal does not look at an input when it is submitted and silently ignores fields it does not know, so a wrong one would be
found out a minute later, or never. Here it is found before anything is queued. Prices are fal's list prices in USD.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import ROUND_CEILING, Decimal
from enum import Enum
from typing import Any

from pydantic import BaseModel, ValidationError

from blocks.errors import BadInput, Permanent
from blocks.fal.inputs import PRESETS, FluxInput, FluxLoraInput, FluxSchnellInput, GptImageInput
from blocks.media import RemoteFile

# fal's price list gives one megapixel for 1024 × 1024.
MEGAPIXEL = Decimal(1024 * 1024)
CENT_FRACTION = Decimal("0.000001")
MAX_FILES = 16
REMEDIES = {
    "seed": "it has no seed: leave the field out, or use fal-ai/flux/dev",
    "sync_mode": "Darkroom always collects files: leave the field out",
}


class Unit(Enum):
    """What fal counts."""

    MEGAPIXEL = "megapixel"  # of each picture, rounded up
    IMAGE = "image"  # each picture, whatever its size


@dataclass(frozen=True, kw_only=True)
class Model:
    endpoint: str
    title: str
    input: type[BaseModel]
    unit: Unit
    unit_price: Decimal
    expected: timedelta
    start_timeout: timedelta
    deadline: timedelta
    quality_prices: Mapping[str, Decimal] = field(default_factory=dict)
    account_id: str = "fal"

    def validate(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The input to send: only what was given, so that fal's defaults stay fal's. Raises BadInput."""
        try:
            checked = self.input.model_validate(dict(arguments))
        except ValidationError as error:
            # Not `from error`: pydantic's text quotes the prompt, and a logged traceback would show it.
            raise self._bad_input(error) from None
        return checked.model_dump(mode="json", exclude_unset=True)

    def estimate(self, input: Mapping[str, Any]) -> Decimal:
        """The most this input should cost, in USD."""
        full = self.input.model_validate(dict(input))
        size = _asked_size(full)
        units = self._units(*size) * int(getattr(full, "num_images", 1))
        return _money(units * self._price(full))

    def cost(self, input: Mapping[str, Any], output: Mapping[str, Any], billable_units: Decimal | None) -> Decimal:
        """What a finished request cost: by fal's own count where it is known, else by the pictures that came."""
        full = self.input.model_validate(dict(input))
        units = billable_units
        if units is None:
            asked = _asked_size(full)
            files = self.files(output)
            units = sum((self._units(file.width or asked[0], file.height or asked[1]) for file in files), Decimal(0))
        return _money(units * self._price(full))

    def files(self, output: Mapping[str, Any]) -> list[RemoteFile]:
        """The pictures of an output. Raises Permanent(code="unexpected_output") where there are none to find."""
        images = output.get("images")
        if not isinstance(images, list) or not 1 <= len(images) <= MAX_FILES:
            raise Permanent(f"{self.endpoint} returned no list of images", code="unexpected_output")
        return [self._file(image) for image in images]

    def _file(self, image: object) -> RemoteFile:
        if not isinstance(image, dict) or not _is_https(image.get("url")):
            raise Permanent(f"{self.endpoint} returned an image without a web address", code="unexpected_output")
        content_type = image.get("content_type")
        return RemoteFile(
            url=image["url"],
            content_type=content_type if isinstance(content_type, str) else None,
            width=_positive(image.get("width")),
            height=_positive(image.get("height")),
        )

    def _units(self, width: int, height: int) -> Decimal:
        if self.unit is Unit.IMAGE:
            return Decimal(1)
        return (Decimal(width * height) / MEGAPIXEL).to_integral_value(ROUND_CEILING)

    def _price(self, full: BaseModel) -> Decimal:
        return self.quality_prices.get(str(getattr(full, "quality", "")), self.unit_price)

    def _bad_input(self, error: ValidationError) -> BadInput:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        # The tags of a union are part of pydantic's path, not of the caller's.
        path = ".".join(str(part) for part in first["loc"] if part not in ("preset", "custom"))[:100]
        if first["type"] != "extra_forbidden":
            return BadInput(f"{path}: {first['msg']}", field=path)
        remedy = REMEDIES.get(path) or f"leave it out; it accepts {', '.join(self.input.model_fields)}"
        return BadInput(f"{self.endpoint} does not accept {path}: {remedy}", field=path)


def _asked_size(full: BaseModel) -> tuple[int, int]:
    size = getattr(full, "image_size", None)
    if isinstance(size, BaseModel):
        return size.width, size.height  # type: ignore[attr-defined]
    return PRESETS.get(str(size), PRESETS["square_hd"])


def _positive(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _is_https(url: object) -> bool:
    return isinstance(url, str) and url.startswith("https://")


def _money(amount: Decimal) -> Decimal:
    return amount.quantize(CENT_FRACTION)


_MODELS = (
    Model(
        endpoint="fal-ai/flux/dev",
        title="FLUX.1 [dev]: good pictures at a fair price",
        input=FluxInput,
        unit=Unit.MEGAPIXEL,
        unit_price=Decimal("0.025"),
        expected=timedelta(seconds=5),
        start_timeout=timedelta(minutes=10),
        deadline=timedelta(minutes=30),
    ),
    Model(
        endpoint="fal-ai/flux/schnell",
        title="FLUX.1 [schnell]: drafts in a second or two",
        input=FluxSchnellInput,
        unit=Unit.MEGAPIXEL,
        unit_price=Decimal("0.003"),
        expected=timedelta(seconds=2),
        start_timeout=timedelta(minutes=10),
        deadline=timedelta(minutes=30),
    ),
    Model(
        endpoint="fal-ai/flux-lora",
        title="FLUX.1 [dev] with LoRAs: trained styles and faces",
        input=FluxLoraInput,
        unit=Unit.MEGAPIXEL,
        unit_price=Decimal("0.035"),
        expected=timedelta(seconds=10),
        start_timeout=timedelta(minutes=10),
        deadline=timedelta(minutes=30),
    ),
    Model(
        endpoint="openai/gpt-image-2",
        title="GPT Image 2: text in pictures, complex scenes",
        input=GptImageInput,
        unit=Unit.IMAGE,
        # Billed by tokens; these are what a picture comes to. `auto` may turn out high.
        unit_price=Decimal("0.19"),
        quality_prices={"low": Decimal("0.02"), "medium": Decimal("0.07")},
        expected=timedelta(seconds=60),
        start_timeout=timedelta(minutes=15),
        deadline=timedelta(minutes=45),
    ),
)
CATALOGUE: Mapping[str, Model] = {model.endpoint: model for model in _MODELS}
