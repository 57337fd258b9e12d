"""Cards of models that make pictures, or make one picture of another."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from .card import Card
from .shapes import (
    FILE,
    IMAGE,
    choice,
    file_url,
    flag,
    image_size,
    integer,
    listing,
    number,
    prompt,
    record,
    ref,
    text,
)

_SEED = integer()
_IMAGES = record("images", images=listing(IMAGE))
_ONE_IMAGE = record("image", image=IMAGE)
_NEGATIVE = "(worst quality, low quality, normal quality:2)"
_FLUX_OUTPUT = record(
    "images",
    "timings",
    "seed",
    "has_nsfw_concepts",
    "prompt",
    images=listing(IMAGE),
    timings={"type": "object", "additionalProperties": {"type": "number"}},
    seed=_SEED,
    has_nsfw_concepts=listing({"type": "boolean"}),
    prompt=text(),
)
# What it wants of both edges together no schema says: see `check_gpt_size`.
_GPT_EDGE = {"type": "integer", "minimum": 16, "maximum": 3840, "multipleOf": 16}
_GPT_SIZE = {"GptImageSize": {"title": "GptImageSize", **record("width", "height", width=_GPT_EDGE, height=_GPT_EDGE)}}
_GPT_PRICING = (
    "Charged by tokens, in dollars. A square picture of 1024 pixels is about 0.006, 0.053 or 0.211 by quality."
)
_LORA = record("path", path=file_url("Where the weights are."), scale=number(0, 4, default=1))


def _flux(*, steps: int = 28, most_steps: int = 50, acceleration: tuple[str, ...] = ("none", "regular", "high")) -> Any:
    return {
        "prompt": prompt(),
        "image_size": image_size(),
        "num_inference_steps": integer(1, most_steps, default=steps),
        "seed": _SEED,
        "guidance_scale": number(1, 20, default=3.5),
        "sync_mode": flag(False),
        "num_images": integer(1, 4, default=1),
        "enable_safety_checker": flag(True),
        "output_format": choice("jpeg", "png", default="jpeg"),
        "acceleration": choice(*acceleration, default="none"),
    }


def _gpt(**more: Any) -> Any:
    return {
        "prompt": prompt(),
        "image_size": image_size("auto", component="GptImageSize"),
        "quality": choice("auto", "low", "medium", "high", default="high"),
        "num_images": integer(1, 4, default=1),
        "output_format": choice("png", "jpeg", "webp", default="png"),
        "sync_mode": flag(False),
        **more,
    }


PICTURES = (
    Card(
        endpoint="fal-ai/flux/dev",
        title="FLUX.1 [dev]",
        category="text-to-image",
        input=record("prompt", **_flux()),
        output=_FLUX_OUTPUT,
        unit="megapixels",  # by the price list; the example in fal's specification says images
        unit_price=Decimal("0.025"),
    ),
    Card(
        endpoint="fal-ai/flux/schnell",
        title="FLUX.1 [schnell]",
        category="text-to-image",
        input=record("prompt", **_flux(steps=4, most_steps=12)),
        output=_FLUX_OUTPUT,
        unit="megapixels",
        unit_price=Decimal("0.003"),
    ),
    Card(
        endpoint="fal-ai/flux-lora",
        title="FLUX.1 [dev] with LoRAs",
        category="text-to-image",
        input=record("prompt", **_flux(acceleration=("none", "regular")), loras=listing(ref("LoraWeight"), default=[])),
        output=_FLUX_OUTPUT,
        components={"LoraWeight": {"title": "LoraWeight", **_LORA}},
        unit="megapixels",
        unit_price=Decimal("0.035"),
    ),
    Card(
        endpoint="openai/gpt-image-2",
        title="GPT Image 2",
        category="text-to-image",
        input=record("prompt", **_gpt()),
        output=_IMAGES,
        components=_GPT_SIZE,
        unit="units",
        unit_price=Decimal(1),  # charged by tokens: a unit is a dollar
        pricing=_GPT_PRICING,
    ),
    Card(
        endpoint="openai/gpt-image-2/edit",
        title="GPT Image 2 Edit",
        category="image-to-image",
        input=record(
            "prompt",
            "image_urls",
            **_gpt(
                image_urls=listing(file_url("A picture to edit."), least=1, most=16),
                mask_url=file_url("What of it may change."),
            ),
        ),
        output=_IMAGES,
        components=_GPT_SIZE,
        unit="units",
        unit_price=Decimal(1),
        pricing=_GPT_PRICING,
    ),
    Card(
        endpoint="fal-ai/nano-banana/edit",
        title="Nano Banana Edit",
        category="image-to-image",
        input=record(
            "prompt",
            "image_urls",
            prompt=prompt("How to change the pictures."),
            image_urls=listing(file_url("A picture to edit."), least=1, most=10),
            num_images=integer(1, 4, default=1),
            output_format=choice("jpeg", "png", "webp", default="png"),
            aspect_ratio=choice("auto", "1:1", "16:9", "9:16", default="auto"),
            sync_mode=flag(False),
        ),
        output=record("images", "description", images=listing(IMAGE), description=text()),
        unit="images",
        unit_price=Decimal("0.039"),
    ),
    Card(
        endpoint="fal-ai/clarity-upscaler",
        title="Clarity Upscaler",
        category="image-to-image",
        tags=("upscaling",),
        input=record(
            "image_url",
            image_url=file_url("The picture to enlarge."),
            prompt=text(default="masterpiece, best quality, highres"),
            upscale_factor=number(1, 4, default=2),
            negative_prompt=text(default=_NEGATIVE),
            creativity=number(0, 1, default=0.35),
            resemblance=number(0, 1, default=0.6),
            guidance_scale=number(0, 20, default=4),
            num_inference_steps=integer(4, 50, default=18),
            seed=_SEED,
            enable_safety_checker=flag(True),
        ),
        output=record("image", "seed", "timings", image=IMAGE, seed=_SEED, timings={"type": "object"}),
        unit="megapixels",
        unit_price=Decimal("0.03"),
    ),
    Card(
        endpoint="fal-ai/esrgan",
        title="Real-ESRGAN",
        category="image-to-image",
        tags=("upscaling",),
        input=record(
            "image_url",
            image_url=file_url("The picture to enlarge."),
            scale=number(1, 8, default=2),
            tile=integer(0, default=0),
            face=flag(False),
            model=choice(
                "RealESRGAN_x4plus",
                "RealESRGAN_x2plus",
                "RealESRGAN_x4plus_anime_6B",
                "RealESRGAN_x4_v3",
                "RealESRGAN_x4_wdn_v3",
                "RealESRGAN_x4_anime_v3",
                default="RealESRGAN_x4plus",
            ),
            output_format=choice("png", "jpeg", default="png"),
        ),
        output=_ONE_IMAGE,
        unit="compute seconds",
        unit_price=Decimal("0.00111"),  # assumed: what fal takes for a second of it is not confirmed
    ),
    Card(
        endpoint="fal-ai/birefnet/v2",
        title="BiRefNet Background Removal",
        category="image-to-image",
        tags=("background removal",),
        input=record(
            "image_url",
            image_url=file_url("The picture to take the background from."),
            model=choice(
                "General Use (Light)",
                "General Use (Light 2K)",
                "General Use (Heavy)",
                "Matting",
                "Portrait",
                "General Use (Dynamic)",
                default="General Use (Light)",
            ),
            operating_resolution=choice("1024x1024", "2048x2048", "2304x2304", default="1024x1024"),
            output_mask=flag(False),
            mask_only=flag(False),
            refine_foreground=flag(True),
            output_format=choice("png", "webp", "gif", default="png"),
            sync_mode=flag(False),
        ),
        output=record("image", image=IMAGE, mask_image=IMAGE),
        unit="compute seconds",
        unit_price=Decimal("0.00111"),  # assumed, as esrgan's
    ),
    Card(
        endpoint="fal-ai/bria/background/remove",
        title="Bria RMBG 2.0",
        category="image-to-image",
        tags=("background removal",),
        input=record("image_url", image_url=file_url("The picture."), sync_mode=flag(False)),
        output=_ONE_IMAGE,
        unit="generations",
        unit_price=Decimal("0.018"),
    ),
    Card(
        endpoint="fal-ai/flux-lora-fast-training",
        title="FLUX LoRA Fast Training",
        category="training",
        kind="training",
        minutes=5,
        input=record(
            "images_data_url",
            images_data_url=file_url("A zip archive of at least four pictures."),
            trigger_word=text(),
            create_masks=flag(True),
            # fal's page states no default; its playground starts with this.
            steps=integer(1, 10_000, default=1000),
            is_style=flag(False),
            is_input_format_already_preprocessed=flag(False),
            data_archive_format=text(),
        ),
        output=record("diffusers_lora_file", "config_file", diffusers_lora_file=FILE, config_file=FILE),
        unit="trainings",
        unit_price=Decimal(2),
    ),
)
