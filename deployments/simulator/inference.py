"""What happens to a request while it is in progress: time passes, the input is validated, pictures are drawn.

Drawing is the only work that takes CPU; it runs in one thread beside the event loop, during the latency.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import random
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from .book import Entry, Outcome
from .cdn import Cdn
from .faults import FileFault
from .models import MODELS, PictureInput
from .outcomes import failure, model_rejection
from .pictures import EXTENSIONS, MEDIA_TYPES, Picture, draw, pixel_bomb

_FOREIGN_HOST = "evil.example"
_PAGE = b"<!doctype html><title>Not a picture</title><p>This is not the picture you are looking for.</p>\n"
_SEED_BITS = 31
_FIXED_PICTURE = Picture(prompt="The same picture for everybody", seed=1, width=1024, height=768)


@dataclass(frozen=True, kw_only=True)
class DrawnPicture:
    picture: Picture
    content: bytes


class Inference:
    def __init__(self, cdn: Cdn, *, latency: float, fixed_pictures: bool) -> None:
        self._cdn = cdn
        self._latency = latency
        self._fixed_pictures = fixed_pictures
        self._pen = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pictures")

    def close(self) -> None:
        self._pen.shutdown(wait=False, cancel_futures=True)

    async def run(self, entry: Entry) -> Outcome:
        if entry.faults.hold:
            await entry.released.wait()
        _, outcome = await asyncio.gather(asyncio.sleep(self._seconds(entry)), self._outcome(entry))
        return _told_failure(entry) or outcome

    def _seconds(self, entry: Entry) -> float:
        if entry.faults.hold:
            return 0  # its time has passed when it is released
        return self._latency if entry.faults.latency is None else entry.faults.latency

    async def _outcome(self, entry: Entry) -> Outcome:
        try:
            arguments = MODELS[entry.endpoint].model_validate(entry.input)
        except ValidationError as error:
            return model_rejection(_detail(error))
        seed = arguments.seed if arguments.seed is not None else random.getrandbits(_SEED_BITS)
        drawn = [await self._draw(picture) for picture in self._asked_for(arguments, seed)]
        body = self._output(entry, arguments, seed, drawn)
        return Outcome(http_status=200, body=body, billable_units=str(arguments.units()))

    def _asked_for(self, arguments: PictureInput, seed: int) -> list[Picture]:
        if self._fixed_pictures:
            return [_FIXED_PICTURE] * arguments.num_images
        width, height = arguments.size()
        picture = functools.partial(Picture, prompt=arguments.prompt, width=width, height=height)
        return [picture(seed=seed + n, format=arguments.output_format) for n in range(arguments.num_images)]

    async def _draw(self, picture: Picture) -> DrawnPicture:
        if picture is _FIXED_PICTURE:
            return DrawnPicture(picture=picture, content=draw(picture))  # drawn once, then a look-up
        content = await asyncio.get_running_loop().run_in_executor(self._pen, draw, picture)
        return DrawnPicture(picture=picture, content=content)

    def _output(self, entry: Entry, arguments: PictureInput, seed: int, drawn: list[DrawnPicture]) -> dict[str, Any]:
        images = [self._image(entry, arguments, each) for each in drawn]
        if entry.endpoint.startswith("openai/"):
            return {"images": images}
        return {
            "images": images,
            "timings": {"inference": self._latency},
            "seed": seed,
            "has_nsfw_concepts": [False] * len(images),
            "prompt": arguments.prompt,
        }

    def _image(self, entry: Entry, arguments: PictureInput, drawn: DrawnPicture) -> dict[str, Any]:
        picture = drawn.picture
        name = f"{secrets.token_urlsafe(16)}.{EXTENSIONS[picture.format]}"
        url = self._data_uri(drawn) if arguments.sync_mode else self._publish(entry, drawn, name)
        image = {
            "url": url,
            "width": picture.width,
            "height": picture.height,
            "content_type": MEDIA_TYPES[picture.format],
        }
        if entry.endpoint.startswith("openai/"):
            return {**image, "file_name": name, "file_size": len(drawn.content)}
        return image

    def _data_uri(self, drawn: DrawnPicture) -> str:
        return f"data:{MEDIA_TYPES[drawn.picture.format]};base64,{base64.b64encode(drawn.content).decode()}"

    def _publish(self, entry: Entry, drawn: DrawnPicture, name: str) -> str:
        fault = entry.faults.file
        if fault is FileFault.FOREIGN_HOST:
            return f"https://{_FOREIGN_HOST}/files/{name}"
        content, content_type = drawn.content, MEDIA_TYPES[drawn.picture.format]
        if fault is FileFault.HTML:
            content, content_type = _PAGE, "text/html; charset=utf-8"
        elif fault is FileFault.PIXEL_BOMB:
            content, content_type = pixel_bomb(), "image/png"
        elif fault is FileFault.CUT_SHORT:
            content = content[: len(content) // 2]
        return self._cdn.publish(content, content_type=content_type, name=name, faults=entry.faults)


def _told_failure(entry: Entry) -> Outcome | None:
    """The failure that the request's rule asks for, if any."""
    told = entry.faults.result
    if told == "422_content_policy":
        return failure("content_policy_violation", entry)
    if told == "500":
        return failure("internal_server_error", entry)
    if told.startswith("error:"):
        return failure(told.removeprefix("error:"), entry)
    return None


def _detail(error: ValidationError) -> list[dict[str, Any]]:
    """pydantic's own words, which are fal's, with the input echoed as fal does."""
    items = error.errors(include_url=False, include_context=False)
    return [{**item, "loc": ["body", *item["loc"]]} for item in items]
