"""What each model accepts, as fal documents it: names, ranges and defaults, checked strictly.

Unknown fields are refused because fal ignores them without a word. A file is named by its place in our media store,
`asset:…`, and put at fal just before it is used, or by its address where fal has it already.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

FILE = re.compile(r"asset:ast_[0-9a-z-]{1,40}|https://(?:[a-z0-9-]+\.)*fal\.media/[!-~]{1,2000}")
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


def _is_file(text: str) -> str:
    if not FILE.fullmatch(text):
        raise PydanticCustomError("file", "must be `asset:` and an asset's id, or a file's address at fal.media")
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
File = Annotated[str, AfterValidator(_is_file)]
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


class ClarityInput(_Strict):
    image_url: File = Field(description="The picture.")
    upscale_factor: float = Field(2, ge=1, le=4, description="How many times as wide and as high.")
    creativity: float = Field(0.35, ge=0, le=1, description="How much detail to invent.")
    resemblance: float = Field(0.6, ge=0, le=1, description="How close to stay to the picture.")
    guidance_scale: float = Field(4, ge=0, le=20, description="How closely to follow the prompt.")
    num_inference_steps: int = Field(18, ge=4, le=50, description="More steps: finer and slower.")
    prompt: str = Field("masterpiece, best quality, highres", max_length=4000, description="What the detail shows.")
    negative_prompt: str = Field("", max_length=4000, description="What it does not show.")
    seed: int | None = Field(None, ge=0, le=LARGEST_SEED, description="Same seed and picture: same detail.")
    enable_safety_checker: bool = Field(True, description="Black out what fal's checker finds unsafe.")


class EsrganInput(_Strict):
    image_url: File = Field(description="The picture.")
    scale: float = Field(2, ge=1, le=8, description="How many times as wide and as high.")
    model: Literal[
        "RealESRGAN_x4plus",
        "RealESRGAN_x2plus",
        "RealESRGAN_x4plus_anime_6B",
        "RealESRGAN_x4_v3",
        "RealESRGAN_x4_wdn_v3",
        "RealESRGAN_x4_anime_v3",
    ] = Field("RealESRGAN_x4plus", description="What kind of picture it was trained on.")
    face: bool = Field(False, description="Treat faces apart.")
    tile: int = Field(0, ge=0, le=4096, description="Work in tiles of so many pixels; 0: in one piece.")
    output_format: Literal["png", "jpeg"] = Field("png", description="File format.")


class BirefnetInput(_Strict):
    image_url: File = Field(description="The picture.")
    model: Literal[
        "General Use (Light)",
        "General Use (Light 2K)",
        "General Use (Heavy)",
        "Matting",
        "Portrait",
        "General Use (Dynamic)",
    ] = Field("General Use (Light)", description="Heavy: finer and slower. Matting: hair and glass.")
    operating_resolution: Literal["1024x1024", "2048x2048", "2304x2304"] = Field(
        "1024x1024", description="What the mask is made at; 2304x2304 with the dynamic model only."
    )
    refine_foreground: bool = Field(True, description="Clean the colours along the edge.")
    output_format: Literal["png", "webp"] = Field("png", description="File format; both have transparency.")

    @field_validator("operating_resolution")
    @classmethod
    def _model_has_resolution(cls, resolution: str, info: ValidationInfo) -> str:
        if resolution == "2304x2304" and info.data.get("model") != "General Use (Dynamic)":
            raise PydanticCustomError("resolution", "2304x2304 goes with `General Use (Dynamic)` only")
        return resolution


class LoraTrainingInput(_Strict):
    images_data_url: File = Field(description="A zip of at least 4 pictures; captions in a .txt of the same name.")
    trigger_word: str | None = Field(None, min_length=1, max_length=100, description="What will call it up.")
    is_style: bool = Field(False, description="A style, not a subject: no captions and no masks are made.")
    create_masks: bool = Field(True, description="Look at the subject more than at what is around it.")
    steps: int = Field(1000, ge=1, le=10_000, description="More steps: closer, and less free.")
    is_input_format_already_preprocessed: bool = Field(False, description="The archive is as the trainer wants it.")
    data_archive_format: Literal["zip"] = Field("zip", description="What the archive is.")


class KlingInput(_Strict):
    prompt: Prompt = Field(min_length=1, max_length=2500, description="What happens in the film.")
    image_url: File = Field(description="The picture it begins with.")
    duration: Literal["5", "10"] = Field("5", description="Seconds.")
    negative_prompt: str = Field("blur, distort, and low quality", max_length=2500, description="What it lacks.")
    cfg_scale: float = Field(0.5, ge=0, le=1, description="How closely to follow the prompt.")
