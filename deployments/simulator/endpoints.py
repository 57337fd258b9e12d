"""The endpoints the simulator knows: the card of each, what makes its answer, and how long that takes.

Latencies are told as multiples of the simulator's own: a training is twenty pictures long, at any speed. What has no
maker of its own is made by its card's schema.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

from . import editing, filming, generating, making, training
from .bench import Bench, Made
from .book import Entry
from .cards.card import Card
from .cards.media import MEDIA
from .cards.pictures import PICTURES
from .sizes import Arguments

Maker = Callable[[Bench, Entry, Arguments], Awaitable[Made]]

# By category, times the simulator's latency.
_PACES = {"image-to-video": 5.0, "text-to-video": 5.0, "video-to-video": 5.0, "training": 20.0}


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    card: Card
    make: Maker | None = None  # of its own
    pace: float = 1.0  # times the simulator's latency
    check: Callable[[Arguments], None] | None = None  # what no schema can say; raises Rejection

    @property
    def trains(self) -> bool:
        return self.card.kind == "training"

    async def answer(self, bench: Bench, entry: Entry, arguments: Arguments) -> Made:
        """Make the answer. Raise Rejection."""
        if self.check is not None:
            self.check(arguments)
        if self.make is not None:
            return await self.make(bench, entry, arguments)
        return await making.make(bench, entry, self.card, arguments)


_MAKERS: Mapping[str, Maker] = {
    "fal-ai/flux/dev": generating.generate,
    "fal-ai/flux/schnell": generating.generate,
    "fal-ai/flux-lora": generating.generate_with_loras,
    "openai/gpt-image-2": generating.generate_by_tokens,
    "openai/gpt-image-2/edit": generating.generate_by_tokens,
    "fal-ai/clarity-upscaler": editing.clarity,
    "fal-ai/esrgan": editing.esrgan,
    "fal-ai/birefnet/v2": editing.birefnet,
    "fal-ai/kling-video/v2.5-turbo/pro/image-to-video": filming.kling,
    "fal-ai/flux-lora-fast-training": training.train,
}
_OWN_PACES = {"fal-ai/clarity-upscaler": 2.0}
_CHECKS = dict.fromkeys(("openai/gpt-image-2", "openai/gpt-image-2/edit"), generating.check_gpt_size)


def by_schema(card: Card, *, pace: float | None = None) -> Endpoint:
    """Return the endpoint that answers by the card alone."""
    return Endpoint(card=card, pace=_PACES.get(card.category, 1.0) if pace is None else pace)


def _own(card: Card) -> Endpoint:
    endpoint = by_schema(card, pace=_OWN_PACES.get(card.endpoint))
    return replace(endpoint, make=_MAKERS.get(card.endpoint), check=_CHECKS.get(card.endpoint))


ENDPOINTS: Mapping[str, Endpoint] = {card.endpoint: _own(card) for card in (*PICTURES, *MEDIA)}


@dataclass(frozen=True, kw_only=True)
class Latencies:
    """Seconds that requests are in progress: `seconds` for a picture, or what is said of their endpoint."""

    seconds: float
    by_endpoint: Mapping[str, float] = field(default_factory=dict)
    endpoints: Mapping[str, Endpoint] = field(default_factory=lambda: ENDPOINTS)

    def of(self, entry: Entry) -> float:
        if entry.faults.latency is not None:
            return entry.faults.latency
        return self.by_endpoint.get(entry.endpoint, self.seconds * self.endpoints[entry.endpoint].pace)

    def of_rejection(self, entry: Entry) -> float:
        """Return after how many seconds a model rejects an input: soon, however long its work would take."""
        return self.of(entry) if entry.faults.latency is not None else min(self.of(entry), self.seconds)
