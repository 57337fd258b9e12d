"""What the models accept, and how many billable units a picture or film is.

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

FileUrl = Annotated[str, Field(min_length=1)]
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


class ModelInput(BaseModel):
    model_config = ConfigDict(extra="ignore")


class PictureInput(ModelInput):
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
        return self.num_images * megapixels(*self.size())


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


class ClarityInput(ModelInput):
    image_url: FileUrl
    upscale_factor: float = Field(2, ge=1, le=4)
    prompt: str = "masterpiece, best quality, highres"
    negative_prompt: str = "(worst quality, low quality, normal quality:2)"
    creativity: float = Field(0.35, ge=0, le=1)
    resemblance: float = Field(0.6, ge=0, le=1)
    guidance_scale: float = Field(4, ge=0, le=20)
    num_inference_steps: int = Field(18, ge=4, le=50)
    seed: int | None = None
    enable_safety_checker: bool = True


class EsrganInput(ModelInput):
    image_url: FileUrl
    scale: float = Field(2, ge=1, le=8)
    tile: int = Field(0, ge=0)
    face: bool = False
    model: Literal[
        "RealESRGAN_x4plus",
        "RealESRGAN_x2plus",
        "RealESRGAN_x4plus_anime_6B",
        "RealESRGAN_x4_v3",
        "RealESRGAN_x4_wdn_v3",
        "RealESRGAN_x4_anime_v3",
    ] = "RealESRGAN_x4plus"
    output_format: Literal["png", "jpeg"] = "png"


class BirefnetInput(ModelInput):
    image_url: FileUrl
    model: Literal[
        "General Use (Light)",
        "General Use (Light 2K)",
        "General Use (Heavy)",
        "Matting",
        "Portrait",
        "General Use (Dynamic)",
    ] = "General Use (Light)"
    operating_resolution: Literal["1024x1024", "2048x2048", "2304x2304"] = "1024x1024"
    output_mask: bool = False
    mask_only: bool = False
    refine_foreground: bool = True
    output_format: Literal["png", "webp", "gif"] = "png"
    sync_mode: bool = False


class KlingInput(ModelInput):
    prompt: Annotated[str, Field(min_length=1, max_length=2500)]
    image_url: FileUrl
    duration: Literal["5", "10"] = "5"
    negative_prompt: Annotated[str, Field(max_length=2500)] = "blur, distort, and low quality"
    cfg_scale: float = Field(0.5, ge=0, le=1)

    @property
    def seconds(self) -> int:
        return int(self.duration)


class TrainingInput(ModelInput):
    images_data_url: FileUrl
    trigger_word: str | None = None
    is_style: bool = False
    create_masks: bool = True
    # fal's page states no default; its playground starts with this.
    steps: int = Field(1000, ge=1, le=10_000)
    is_input_format_already_preprocessed: bool = False
    data_archive_format: str | None = None


def megapixels(width: int, height: int) -> int:
    """Return the megapixels that a picture is charged by, rounded up."""
    return math.ceil(width * height / _MEGAPIXEL)
