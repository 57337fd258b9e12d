"""The endpoints the simulator knows: what each accepts, what makes its answer, and how long that takes.

Latencies are told as multiples of the simulator's own: a training is twenty pictures long, at any speed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from . import editing, filming, generating, training
from .bench import Bench, Made
from .book import Entry
from .models import (
    BirefnetInput,
    ClarityInput,
    EsrganInput,
    FluxDevInput,
    FluxLoraInput,
    FluxSchnellInput,
    GptImageInput,
    KlingInput,
    ModelInput,
    TrainingInput,
)

InputT = TypeVar("InputT", bound=ModelInput)


@dataclass(frozen=True, kw_only=True)
class Endpoint(Generic[InputT]):
    input: type[InputT]
    make: Callable[[Bench, Entry, InputT], Awaitable[Made]]
    pace: float = 1.0  # times the simulator's latency
    trains: bool = False


ENDPOINTS: Mapping[str, Endpoint[Any]] = {
    "fal-ai/flux/dev": Endpoint(input=FluxDevInput, make=generating.generate),
    "fal-ai/flux/schnell": Endpoint(input=FluxSchnellInput, make=generating.generate),
    "fal-ai/flux-lora": Endpoint(input=FluxLoraInput, make=generating.generate_with_loras),
    "openai/gpt-image-2": Endpoint(input=GptImageInput, make=generating.generate_images_only),
    "fal-ai/clarity-upscaler": Endpoint(input=ClarityInput, make=editing.clarity, pace=2),
    "fal-ai/esrgan": Endpoint(input=EsrganInput, make=editing.esrgan),
    "fal-ai/birefnet/v2": Endpoint(input=BirefnetInput, make=editing.birefnet),
    "fal-ai/kling-video/v2.5-turbo/pro/image-to-video": Endpoint(input=KlingInput, make=filming.kling, pace=5),
    "fal-ai/flux-lora-fast-training": Endpoint(input=TrainingInput, make=training.train, pace=20, trains=True),
}


@dataclass(frozen=True, kw_only=True)
class Latencies:
    """Seconds that requests are in progress: `seconds` for a picture, or what is said of their endpoint."""

    seconds: float
    by_endpoint: Mapping[str, float] = field(default_factory=dict)

    def of(self, entry: Entry) -> float:
        if entry.faults.latency is not None:
            return entry.faults.latency
        return self.by_endpoint.get(entry.endpoint, self.seconds * ENDPOINTS[entry.endpoint].pace)

    def of_rejection(self, entry: Entry) -> float:
        """Return after how many seconds a model rejects an input: soon, however long its work would take."""
        return self.of(entry) if entry.faults.latency is not None else min(self.of(entry), self.seconds)
