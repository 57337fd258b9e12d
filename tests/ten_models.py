"""Ten models of ten categories, as the simulator has them from fal's public pages: what each takes, makes and says."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from io import BytesIO
from typing import Any

import media_files
from PIL import Image

NANO = 10**9
PICTURE, SOUND = "a picture", "a sound"  # of the user's own
BEGINS: Mapping[str, Callable[[bytes], bool]] = {
    "image/png": lambda content: content.startswith(b"\x89PNG\r\n\x1a\n"),
    "image/jpeg": lambda content: content.startswith(b"\xff\xd8\xff"),
    "video/mp4": lambda content: content[4:8] == b"ftyp",
    "audio/wav": lambda content: content.startswith(b"RIFF"),
    "audio/mpeg": lambda content: content[:1] == b"\xff" or content.startswith(b"ID3"),
    "model/gltf-binary": lambda content: content.startswith(b"glTF"),
    "text/vtt": lambda content: content.startswith(b"WEBVTT"),
    "application/x-subrip": lambda content: b"-->" in content[:40],
}


@dataclass(frozen=True, kw_only=True)
class Sold:
    """`input`: with words for the user's files. `makes`: the types of its files. `says`: what else it answers."""

    model: str
    input: Mapping[str, Any]
    makes: tuple[str, ...] = ()
    says: tuple[str, ...] = ()


TEN = {
    "text to image": Sold(model="fal-ai/flux/schnell", input={"prompt": "a fox"}, makes=("image/jpeg",)),
    "edit": Sold(
        model="fal-ai/nano-banana/edit", input={"prompt": "a fox", "image_urls": [PICTURE]}, makes=("image/png",)
    ),
    "film from text": Sold(model="fal-ai/veo3/fast", input={"prompt": "a fox", "duration": "4s"}, makes=("video/mp4",)),
    "film from a picture": Sold(
        model="fal-ai/kling-video/v2.5-turbo/pro/image-to-video",
        input={"prompt": "it turns its head", "image_url": PICTURE},
        makes=("video/mp4",),
    ),
    "sound": Sold(
        model="fal-ai/stable-audio-25/text-to-audio",
        input={"prompt": "rain", "seconds_total": 1},
        makes=("audio/wav",),
    ),
    "speech": Sold(
        model="fal-ai/elevenlabs/tts/eleven-v3", input={"text": "The fox, in the snow."}, makes=("audio/mpeg",)
    ),
    "transcription": Sold(
        model="fal-ai/whisper",
        input={"audio_url": SOUND},
        makes=("application/x-subrip", "text/vtt"),
        says=("text", "chunks"),
    ),
    "3D": Sold(model="fal-ai/hunyuan3d/v2", input={"input_image_url": PICTURE}, makes=("model/gltf-binary",)),
    "upscaling": Sold(model="fal-ai/clarity-upscaler", input={"image_url": PICTURE}, makes=("image/png",)),
    "vision": Sold(model="fal-ai/moondream2", input={"image_url": PICTURE, "prompt": "What is it?"}, says=("output",)),
}


def a_picture() -> tuple[bytes, str]:
    out = BytesIO()
    Image.new("RGB", (320, 320), "orange").save(out, "PNG")
    return out.getvalue(), "image/png"


OWN: Mapping[Any, Callable[[], tuple[bytes, str]]] = {
    PICTURE: a_picture,
    SOUND: lambda: (media_files.sound(kind="wav"), "audio/wav"),
}


def with_files(input: Mapping[str, Any], bring: Callable[[str], str]) -> dict[str, Any]:
    """Return the input with the user's own files in it. `bring`: from the word for a file to its asset's id."""

    def given(value: Any) -> Any:
        if isinstance(value, list):
            return [given(each) for each in value]
        return f"asset:{bring(value)}" if value in OWN else value

    return {name: given(value) for name, value in input.items()}


def require_made(sold: Sold, files: Collection[tuple[str, bytes]]) -> None:
    """Assert that these files, each with its type, are what the model makes, by what their bytes say."""
    assert sorted(content_type for content_type, _ in files) == sorted(sold.makes)
    assert all(BEGINS[content_type](content) for content_type, content in files)


def is_charged(cost_usd: Decimal, *, nano_usd: int) -> bool:
    """Return whether a cost on record is what the provider has charged, to the millionth of a dollar."""
    return nano_usd > 0 and abs(cost_usd - Decimal(nano_usd) / NANO) <= Decimal("0.000001")
