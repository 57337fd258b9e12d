"""Bringing a picture from the web, as a call like those that are paid.

It waits for its turn, is tried again, and is on record. It costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from darkroom.errors import BadInput, Permanent
from darkroom.media.formats import RemoteFile
from darkroom.media.resize import QUALITY

ENDPOINT = "web/image"
MAX_WIDTH = 2048
LONGEST_URL = 2048
FREE = Decimal(0)


class WebPicture(BaseModel):
    """`max_width` in pixels; `quality` of JPEG and WebP, 1 to 100."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(min_length=1, max_length=LONGEST_URL)
    max_width: int = Field(MAX_WIDTH, ge=16, le=8192)
    quality: int = Field(QUALITY, ge=1, le=100)


@dataclass(frozen=True, kw_only=True)
class WebModel:
    endpoint: str = ENDPOINT
    account_id: str = "web"
    expected: timedelta = timedelta(seconds=2)
    start_timeout: timedelta = timedelta(0)  # nobody has it in a queue: lost with its process, it is soon given up
    deadline: timedelta = timedelta(minutes=2)

    def validate(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the whole input, defaults and all. Raise BadInput."""
        try:
            return WebPicture.model_validate(dict(arguments)).model_dump(mode="json")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            path = ".".join(map(str, first["loc"]))[:100]
            # Not `from error`: pydantic's text quotes the address, which may carry a signature.
            raise BadInput(f"{path}: {first['msg']}", field=path) from None

    def estimate(self, input: Mapping[str, Any]) -> Decimal:
        return FREE

    def cost(self, input: Mapping[str, Any], output: Mapping[str, Any], billable_units: Decimal | None) -> Decimal:
        return FREE

    def files(self, output: Mapping[str, Any]) -> list[RemoteFile]:
        """Return the one picture, inside its `data:` URL."""
        image = output.get("image")
        if not isinstance(image, dict) or not isinstance(image.get("url"), str):
            raise Permanent(f"{self.endpoint} returned no picture", code="unexpected_output")
        return [
            RemoteFile(
                url=image["url"],
                content_type=image.get("content_type"),
                width=image.get("width"),
                height=image.get("height"),
            )
        ]


def notes_of(output: Mapping[str, Any]) -> list[str]:
    """Return what is to be told of the picture, each note going on from its name: "was HEIC"."""
    image = output.get("image")
    return [str(note) for note in image.get("notes") or ()] if isinstance(image, dict) else []


MODELS = (WebModel(),)
