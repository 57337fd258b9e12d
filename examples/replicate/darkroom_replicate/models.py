"""What can be ordered of Replicate: a few models that make pictures, each with its input and its price.

Official models are run by name and paid by the picture, others by version and by the second (`metrics.predict_time`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, Literal

from pydantic import Field

from darkroom.errors import Permanent
from darkroom.media.formats import RemoteFile
from darkroom.providers.inputs import Strict, Words, checked, money, recorded

FILE_HOSTS = re.compile(rb"(?:[a-z0-9-]+\.)*replicate\.delivery")
LIFETIME = timedelta(minutes=10)  # then Replicate ends it: `Cancel-After`
Aspect = Literal["1:1", "16:9", "21:9", "3:2", "2:3", "4:5", "5:4", "3:4", "4:3", "9:16", "9:21"]


class PictureInput(Strict):
    prompt: Words = Field(max_length=4000, description="What the picture shows.")
    num_outputs: int = Field(1, ge=1, le=4, description="How many pictures to make.")
    seed: int | None = Field(None, ge=0, le=2**31 - 1, description="Same seed and prompt: same picture.")


class FluxInput(PictureInput):
    aspect_ratio: Aspect = Field("1:1", description="Width to height.")
    output_format: Literal["webp", "jpg", "png"] = Field("webp", description="File format.")


@dataclass(frozen=True, kw_only=True)
class ReplicateModel:
    """`name` is Replicate's. Ours has a prefix, because others sell models of the same name."""

    name: str
    input: type[PictureInput] = PictureInput
    expected: timedelta = timedelta(seconds=5)
    version: str | None = None
    usd_per_picture: Decimal = Decimal(0)
    usd_per_second: Decimal = Decimal(0)
    account_id: str = "replicate"
    start_timeout: timedelta = LIFETIME
    deadline: timedelta = LIFETIME + timedelta(minutes=1)

    @property
    def endpoint(self) -> str:
        return f"replicate/{self.name}"

    def validate(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return recorded(checked(self.input, arguments, endpoint=self.endpoint))

    def estimate(self, input: Mapping[str, Any]) -> Decimal:
        seconds = Decimal(self.expected.total_seconds())
        return money(int(input["num_outputs"]) * (self.usd_per_picture + seconds * self.usd_per_second))

    def cost(self, input: Mapping[str, Any], output: Mapping[str, Any], billable_units: Decimal | None) -> Decimal:
        seconds = Decimal(str(output.get("predict_time") or 0))
        return money(len(self.files(output)) * self.usd_per_picture + seconds * self.usd_per_second)

    def files(self, output: Mapping[str, Any]) -> list[RemoteFile]:
        urls = output["pictures"]
        if not urls or not all(isinstance(url, str) and url.startswith("https://") for url in urls):
            raise Permanent(f"{self.endpoint} returned no addresses of pictures", code="unexpected_output")
        return [RemoteFile(url=url, hosts=FILE_HOSTS) for url in urls]


_SCHNELL = ReplicateModel(name="black-forest-labs/flux-schnell", input=FluxInput, usd_per_picture=Decimal("0.003"))
_SDXL = ReplicateModel(
    name="stability-ai/sdxl",
    version="7762fd07cf82c948538e41f63f77d685e02b063e37e496e96eefd46c929f9bdc",
    expected=timedelta(seconds=15),
    usd_per_second=Decimal("0.000975"),
)
MODELS: Mapping[str, ReplicateModel] = {model.endpoint: model for model in (_SCHNELL, _SDXL)}
