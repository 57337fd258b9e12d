"""What each model accepts, as fal documents it: names, ranges and defaults, checked strictly.

Unknown fields are refused because fal ignores them without a word.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

LARGEST_SEED = 2**53 - 1  # the largest integer every JSON reader keeps exact
PRESETS = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}
Preset = Literal["square_hd", "square", "portrait_4_3", "portrait_16_9", "landscape_4_3", "landscape_16_9"]


def _has_words(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "must not be blank: describe the picture")
    if "\x00" in text:
        raise PydanticCustomError("nul", "must not contain NUL characters: remove them")
    return text


def _size_kind(value: Any) -> str:
    return "custom" if isinstance(value, dict | BaseModel) else "preset"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class FluxSize(_Strict):
    width: int = Field(ge=64, le=2048, description="Pixels, 64 to 2048.")
    height: int = Field(ge=64, le=2048, description="Pixels, 64 to 2048.")


class GptImageSize(_Strict):
    """Edges are multiples of 16 up to 3840, sides at most 3:1, 655,360 to 8,294,400 pixels in all."""

    width: int = Field(ge=16, le=3840, multiple_of=16, description="Pixels, a multiple of 16 up to 3840.")
    height: int = Field(ge=16, le=3840, multiple_of=16, description="Pixels, a multiple of 16 up to 3840.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if max(self.width, self.height) > 3 * min(self.width, self.height):
            raise PydanticCustomError("ratio", "sides may differ by 3:1 at most: choose a less narrow size")
        if not 655_360 <= self.width * self.height <= 8_294_400:
            raise PydanticCustomError("pixels", "must have 655,360 to 8,294,400 pixels, e.g. 1024 × 1024")
        return self


Prompt = Annotated[str, AfterValidator(_has_words)]
FluxImageSize = Annotated[
    Annotated[Preset, Tag("preset")] | Annotated[FluxSize, Tag("custom")], Discriminator(_size_kind)
]
GptImageImageSize = Annotated[
    Annotated[Preset | Literal["auto"], Tag("preset")] | Annotated[GptImageSize, Tag("custom")],
    Discriminator(_size_kind),
]


class ImageInput(_Strict):
    """What all models have in common."""

    prompt: Prompt = Field(min_length=1, max_length=4000, description="What the picture shows.")
    num_images: int = Field(1, ge=1, le=4, description="How many pictures to make.")


class FluxInput(ImageInput):
    image_size: FluxImageSize = Field("landscape_4_3", description="A named size, or width and height in pixels.")
    num_inference_steps: int = Field(28, ge=1, le=50, description="More steps: finer and slower.")
    guidance_scale: float = Field(3.5, ge=1, le=20, description="How closely to follow the prompt.")
    seed: int | None = Field(None, ge=0, le=LARGEST_SEED, description="Same seed and prompt: same picture.")
    output_format: Literal["jpeg", "png"] = Field("jpeg", description="File format.")
    acceleration: Literal["none", "regular", "high"] = Field("none", description="Speed at the cost of detail.")
    enable_safety_checker: bool = Field(True, description="Black out what fal's checker finds unsafe.")


class FluxSchnellInput(FluxInput):
    num_inference_steps: int = Field(4, ge=1, le=12, description="More steps: finer and slower.")


class Lora(_Strict):
    path: str = Field(min_length=1, max_length=2048, description="Web address of the weights.")
    scale: float = Field(1.0, ge=0, le=4, description="How strongly it shows.")
    force: bool = Field(False, description="Load it even where its keys do not all match.")


class FluxLoraInput(FluxInput):
    guidance_scale: float = Field(3.5, ge=0, le=35, description="How closely to follow the prompt.")
    acceleration: Literal["none", "regular"] = Field("none", description="Speed at the cost of detail.")
    loras: list[Lora] = Field(default_factory=list, max_length=8, description="Trained styles and faces to apply.")


class GptImageInput(ImageInput):
    image_size: GptImageImageSize = Field("landscape_4_3", description="A named size, `auto`, or width and height.")
    quality: Literal["auto", "low", "medium", "high"] = Field("high", description="Decides time and price.")
    output_format: Literal["png", "jpeg", "webp"] = Field("png", description="File format.")
