"""What a call should cost before it is made: the card's list price times the units that its input comes to.

The vocabulary of units is open and its words are not always true, so each is read leniently, and where nothing is
known of a unit the estimate says where it is from: our own billed calls, or a guess.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Any, TypeGuard

from darkroom.errors import BadInput
from darkroom.models.card import Card
from darkroom.models.schemas import properties, sides

# Assumed: what fal calls `square_hd` is one.
MEGAPIXEL = Decimal(1024 * 1024)
CENT_FRACTION = Decimal("0.000001")
TOO_DEAR = Decimal(1_000_000)  # USD; the ledger keeps amounts below that
LARGEST = Decimal(1_000_000_000)  # of whatever a price goes by, in one call
USUAL_COMPUTE_SECONDS = 20
USUAL_FILM_SECONDS = 5
# fal's names of sizes, in pixels.
PRESETS = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}
# Models agree neither on what they call the number of what they make nor on what they call a text.
COUNTS = ("num_images", "num_outputs", "num_videos", "num_samples", "max_images")
OF_PICTURES = frozenset({"megapixel", "image", "picture"})
LENGTHS = ("duration", "duration_seconds", "seconds", "video_length", "seconds_total", "music_length_ms")
STEPS = ("steps", "num_inference_steps", "training_steps")
FACTORS = ("upscale_factor", "scale")
COUNTED = frozenset({"image", "picture", "video", "audio", "generation", "request", "call", "run", "training"})
TEXTS = ("text", "prompt", "input", "script", "lyrics")

Size = tuple[int, int]
Input = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a call should cost at most. `source`: how that is known.

    `list_price`: the card's price times the input's units. `own_calls`: what nine in ten of our billed calls came to.
    `platform`: what calls came to on the average, as the provider's platform says.
    `operator`: an operator's price. `max_usd`: the order's own bound. `guess`: the price times what is usual.
    """

    usd: Decimal
    source: str
    units: Decimal | None = None
    unit: str | None = None
    unit_price_usd: Decimal | None = None


class NoPrice(BadInput):
    """Nobody says what a call of the model costs. Order with `max_usd`, or have an operator give it a price."""

    code = "no_price"


def estimate(
    card: Card,
    input: Input,
    *,
    operators_usd: Decimal | None = None,
    own_calls_usd: Callable[[], Decimal | None] = lambda: None,
    platform_usd: Callable[[], Decimal | None] = lambda: None,
    at_most_usd: Decimal | None = None,
    size: Size | None = None,
    usual_units: Callable[[Input], Decimal] | None = None,
) -> Estimate:
    """Return the most that the call should cost. Raise NoPrice where nothing at all is known.

    `operators_usd`: an operator's price for a call. `size`: of the pictures to come, where that is known.
    `usual_units`: what an input comes to where the unit says nothing, if that is known.
    """
    # A person's word rules over the list, which is wrong for some models.
    if operators_usd is not None:
        return Estimate(usd=money(operators_usd), source="operator")
    known = with_defaults(card, input)
    units = None if card.unit is None else units_of(card.unit, known, size=size)
    if card.unit_price is not None and units is not None:
        return _of_units(card, units, "list_price", known)
    # It goes by the input; what our calls came to is of any inputs.
    if card.unit_price is not None and usual_units is not None:
        return _of_units(card, usual_units(known), "guess", known)
    # Ours first: a platform's average is of everybody's settings.
    if (usual := own_calls_usd()) is not None:
        return Estimate(usd=money(usual), source="own_calls")
    if (usual := platform_usd()) is not None:
        return Estimate(usd=money(usual), source="platform")
    if card.unit_price is not None:
        return _of_units(card, _usual_units(card), "guess", known)
    # Last, as it is a bound and says nothing of what a call costs.
    if at_most_usd is not None:
        return Estimate(usd=money(at_most_usd), source="max_usd")
    raise NoPrice(
        f"{card.endpoint} has no price; give `max_usd`, or have an operator set one: darkroom model price",
        field="model",
    )


def _of_units(card: Card, units: Decimal, source: str, input: Input) -> Estimate:
    assert card.unit_price is not None
    try:
        usd = money(units * card.unit_price)
    except BadInput:
        field = _largest(input)
        message = f"{field}: with it {card.endpoint} would cost ${TOO_DEAR:,} or more; ask for less"
        raise BadInput(message, field=field) from None
    return Estimate(usd=usd, source=source, units=units, unit=card.unit, unit_price_usd=card.unit_price)


def money(amount: Decimal) -> Decimal:
    """Round an amount as the ledger keeps it. Raise BadInput for one that it cannot keep."""
    if amount >= TOO_DEAR - CENT_FRACTION:
        raise BadInput(f"A call that costs ${TOO_DEAR:,} or more is not taken. Ask for less.")
    return amount.quantize(CENT_FRACTION)


def with_defaults(card: Card, input: Input) -> dict[str, Any]:
    """Return the input with the defaults that its schema tells, for what it costs; they are not sent."""
    schema = card.input_schema or {}
    known = properties(sides(schema, schema))
    defaults = {
        name: each["default"] for name, each in known.items() if isinstance(each, Mapping) and "default" in each
    }
    return {**defaults, **input}


def units_of(unit: str, input: Input, *, size: Size | None = None) -> Decimal | None:
    """Return how many units an input comes to; None where the unit does not say.

    Units of what goes in (its seconds, its megapixels) are not known before it is read there.
    """
    count = picture_count(input)
    # A unit is told in the singular or the plural, some with a blank behind it.
    match unit.strip().lower().removesuffix("s"):
        case "megapixel":
            # Up to the next whole one, as the models' pages say.
            width, height = size or picture_size(input)
            return count * (Decimal(width * height) / MEGAPIXEL).to_integral_value(ROUND_CEILING)
        case word if word in COUNTED:
            return count
        case "second":
            return _seconds(input)
        case "minute":
            seconds = _seconds(input)
            return None if seconds is None else seconds / 60
        case "step":
            return next((found for name in STEPS if (found := _number(input, name))), None)
        case other:
            return _characters(other, input)


def is_a_count(unit: str, *, category: str) -> bool:
    """Return whether the input alone tells how many units a call will have come to, to the last one."""
    word = unit.strip().lower().removesuffix("s")
    # Of a picture that is made from another only the provider knows the size.
    return word in COUNTED or (word == "megapixel" and category == "text-to-image")


def _characters(unit: str, input: Input) -> Decimal | None:
    found = re.fullmatch(r"(\d+)?(k|m)? ?character", unit)
    if not found:
        return None
    # The price is of so many at once: `1000 characters`.
    each = Decimal(found[1] or 1) * {"k": 1000, "m": 1_000_000}.get(found[2] or "", 1)
    text = next((value for name in TEXTS if isinstance(value := input.get(name), str)), None)
    return None if text is None else Decimal(len(text)) / each


def picture_size(input: Input) -> Size:
    """Return the size of the pictures to come, in pixels, as far as the input tells; else a megapixel."""
    asked = input.get("image_size")
    width, height = PRESETS["square_hd"] if not isinstance(asked, str) else PRESETS.get(asked, PRESETS["square_hd"])
    given = asked if isinstance(asked, Mapping) else input
    if is_length(given.get("width")) and is_length(given.get("height")):
        width, height = int(given["width"]), int(given["height"])
    factor = next((found for name in FACTORS if (found := _number(input, name))), Decimal(1))
    # However much smaller it is made, there is something of it to pay.
    return max(round(width * factor), 1), max(round(height * factor), 1)


def is_length(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def picture_count(input: Input) -> Decimal:
    return next((found for name in COUNTS if (found := _number(input, name))), Decimal(1))


def _seconds(input: Input) -> Decimal | None:
    for name in LENGTHS:
        # Nothing is not how long it will be: it is the provider's own length, or refused there.
        if found := _number(input, name):
            return max(found / 1000 if name.endswith("_ms") else found, Decimal(1))
    return None


def _largest(input: Input) -> str:
    """Return the field that makes a call dear: the largest of the numbers that prices go by."""
    size = input.get("image_size")
    given = {name: _read(input.get(name)) for name in (*COUNTS, *LENGTHS, *STEPS, *FACTORS, "width", "height")}
    if isinstance(size, Mapping):
        given["image_size"] = max((found for side in size.values() if (found := _read(side))), default=None)
    return max((name for name in given if given[name]), key=lambda name: given[name] or 0, default="model")


def _number(input: Input, name: str) -> Decimal | None:
    """Read the number of a field. Raise BadInput for one that no call comes to, and that cannot be reckoned with."""
    found = _read(input.get(name))
    if found is not None and found > LARGEST:
        raise BadInput(f"{name}: no call takes a number as large as that; use at most {LARGEST:,}", field=name)
    return found


def _read(value: object) -> Decimal | None:
    """Read a number, also as text with its unit: `8s`."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        # Durations are texts at many models: Veo's `8s`, Kling's `5`.
        number = Decimal(str(value).strip().lower().removesuffix("s"))
    except InvalidOperation:
        return None
    return number if number.is_finite() and number >= 0 else None


def _usual_units(card: Card) -> Decimal:
    """Return a guess at the units of a call whose unit says nothing."""
    unit = (card.unit or "").strip().lower()
    if "compute" in unit:
        return Decimal(str(card.usual_seconds or USUAL_COMPUTE_SECONDS))
    return Decimal(USUAL_FILM_SECONDS if "second" in unit else 1)
