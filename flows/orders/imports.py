"""Pictures that are to be fetched from the web, as they are ordered (`flows/import_images.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from darkroom.errors import DarkroomError
from darkroom.flows.parts.form import shown
from darkroom.ledger import OPERATOR, Asset
from darkroom.media.resize import QUALITY
from darkroom.providers.web.model import LONGEST_URL, MAX_WIDTH

KIND = "import-images"
MOST = 500
LONGEST_TOGETHER = 400_000  # characters, as JSON: Prefect takes no parameters of more than 512 KiB
Came = Mapping[str, Asset | DarkroomError]  # by step
Given = tuple[int, str, Asset | DarkroomError]  # its place in the order from 1, its address, what came of it

Url = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_URL)]
Urls = Annotated[list[Url], Field(min_length=1, max_length=MOST)]
Width = Annotated[int, Field(ge=16, le=8192)]
Quality = Annotated[int, Field(ge=1, le=100)]
Product = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)] | None


URLS = shown("Addresses", "Of JPEG, PNG or WebP pictures on the public web, 1 to 500; one given twice is fetched once.")
WIDTH = shown("Widest", "Pixels: what is wider becomes smaller, nothing becomes larger.", MAX_WIDTH)
QUALITY_ = shown("Quality", "Of JPEG and WebP, 1 to 100. PNG loses nothing.", QUALITY)
PRODUCT = shown("Product", "What the pictures show, for whoever looks at the result.", None)
USER = shown("User", "Who it is for: a user's name or id.", OPERATOR)


class Import(BaseModel):
    """Which pictures are wanted, and how large."""

    model_config = ConfigDict(extra="forbid")

    urls: Urls = URLS
    max_width: Width = WIDTH
    quality: Quality = QUALITY_
    product: Product = PRODUCT

    @field_validator("urls")
    @classmethod
    def _not_too_long_together(cls, urls: list[str]) -> list[str]:
        if sum(len(url.encode("ascii", "backslashreplace")) for url in urls) > LONGEST_TOGETHER:
            raise ValueError(
                f"together they have more than {LONGEST_TOGETHER:,} characters: make several imports of it"
            )
        return urls

    def steps(self) -> list[str]:
        """For each address the step that brings it: the same one for the same address."""
        first: dict[str, str] = {}
        return [first.setdefault(url.partition("#")[0], f"image-{n:04}") for n, url in enumerate(self.urls, 1)]

    def given(self, came: Came) -> list[Given]:
        """Each address as it was given, with what came of it."""
        return [(n, url, came[step]) for n, (url, step) in enumerate(zip(self.urls, self.steps(), strict=True), 1)]
