"""The rest of the catalogue: the entries that are odd, and as many more as are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from .card import Card
from .shapes import AUDIO, IMAGE, VIDEO, choice, flag, image_size, integer, listing, number, prompt, record

_BEGAN = datetime(2024, 1, 1, tzinfo=UTC)
_KINDS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("text-to-image", "megapixels", "0.0{}", record("images", images=listing(IMAGE))),
    ("text-to-video", "seconds", "0.1{}", record("video", video=VIDEO)),
    ("text-to-audio", "audios", "0.0{}", record("audio", audio=AUDIO)),
    ("text-to-image", "compute seconds", "0.000{}", record("image", image=IMAGE)),
)
_INPUT = record(
    "prompt",
    prompt=prompt(),
    image_size=image_size(),
    num_images=integer(1, 4, default=1),
    guidance_scale=number(1, 20, default=3.5),
    output_format=choice("jpeg", "png", default="jpeg"),
    seed=integer(),
    enable_safety_checker=flag(True),
)


def odd_cards() -> Iterator[Card]:
    """Yield an entry without metadata, a withdrawn one, one whose schema cannot be had, one with a wrong price."""
    # As fal's specification allows for: "endpoints without registry entries".
    yield _card("fal-ai/unlisted/draft", 0, has_metadata=False)
    yield _card("fal-ai/sketch/v1", 1, status="deprecated")
    yield _card("fal-ai/broken-schema", 2, expansion_fails=True)
    # Others have found models at fal whose list price was far below what is charged.
    yield _card("fal-ai/imagine-video", 1, charged_price=Decimal("0.3"))


def crowd(number_of_cards: int) -> Iterator[Card]:
    for place in range(number_of_cards):
        yield _card(f"crowd/model-{place:04}", place, date=_BEGAN + timedelta(hours=place))


def _card(endpoint: str, place: int, **more: Any) -> Card:
    category, unit, price, output = _KINDS[place % len(_KINDS)]
    return Card(
        endpoint=endpoint,
        title=endpoint.rpartition("/")[2].replace("-", " ").title(),
        category=category,
        description=f"Number {place} of many: {category} by the {unit}.",
        input=_INPUT,
        output=output,
        unit=unit,
        unit_price=Decimal(price.format(1 + place % 9)),
        **more,
    )


def newcomer(place: int) -> Card:
    """Return a model that appeared while somebody was reading the list."""
    return _card(f"crowd/newcomer-{place}", place)
