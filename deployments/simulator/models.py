"""The models the simulator knows: what they accept, and how many billable units a picture is.

Fields that fal's page of a model does not name are ignored, as fal does. Validation happens when a request runs, not
when it is submitted.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

_PRESETS = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}
# Assumed: the picture fal calls "square HD" is one megapixel.
_MEGAPIXEL = 1024 * 1024

Preset = Literal["square_hd", "square", "portrait_4_3", "portrait_16_9", "landscape_4_3", "landscape_16_9"]
Prompt = Annotated[str, Field(min_length=1)]
ImageCount = Annotated[int, Field(ge=1, le=4)]


class FluxSize(BaseModel):
    # fal's own limit is far higher; the simulator really draws the picture.
    width: int = Field(512, gt=0, le=4096)
    height: int = Field(512, gt=0, le=4096)


class GptSize(BaseModel):
    width: int = Field(gt=0, le=3840, multiple_of=16)
    height: int = Field(gt=0, le=3840, multiple_of=16)

    @model_validator(mode="after")
    def _is_drawable(self) -> GptSize:
        if max(self.width, self.height) > 3 * min(self.width, self.height):
            raise ValueError("the aspect ratio must be between 1:3 and 3:1")
        if not 655_360 <= self.width * self.height <= 8_294_400:
            raise ValueError("the picture must have between 655360 and 8294400 pixels")
        return self


class PictureInput(BaseModel):
    model_config = ConfigDict(extra="ignore")

    prompt: Prompt
    num_images: ImageCount = 1
    sync_mode: bool = False
    output_format: str = "jpeg"
    image_size: object = "landscape_4_3"
    seed: int | None = None

    def size(self) -> tuple[int, int]:
        chosen = self.image_size
        if isinstance(chosen, FluxSize | GptSize):
            return chosen.width, chosen.height
        return _PRESETS.get(str(chosen), _PRESETS["square_hd"])

    def units(self) -> int:
        """Pictures are charged by the megapixel, each rounded up."""
        width, height = self.size()
        return self.num_images * math.ceil(width * height / _MEGAPIXEL)


class FluxDevInput(PictureInput):
    image_size: Preset | FluxSize = "landscape_4_3"
    num_inference_steps: int = Field(28, ge=1, le=50)
    guidance_scale: float = Field(3.5, ge=1, le=20)
    output_format: Literal["jpeg", "png"] = "jpeg"
    acceleration: Literal["none", "regular", "high"] = "none"
    enable_safety_checker: bool = True


class FluxSchnellInput(FluxDevInput):
    num_inference_steps: int = Field(4, ge=1, le=12)


class LoraWeight(BaseModel):
    path: str
    scale: float = Field(1, ge=0, le=4)


class FluxLoraInput(FluxDevInput):
    loras: list[LoraWeight] = []
    acceleration: Literal["none", "regular"] = "none"


class GptImageInput(PictureInput):
    image_size: Preset | Literal["auto"] | GptSize = "landscape_4_3"
    quality: Literal["auto", "low", "medium", "high"] = "high"
    output_format: Literal["png", "jpeg", "webp"] = "png"

    def units(self) -> int:
        """Charged by tokens, which the simulator does not count: one unit is one picture."""
        return self.num_images


MODELS: dict[str, type[PictureInput]] = {
    "fal-ai/flux/dev": FluxDevInput,
    "fal-ai/flux/schnell": FluxSchnellInput,
    "fal-ai/flux-lora": FluxLoraInput,
    "openai/gpt-image-2": GptImageInput,
}
