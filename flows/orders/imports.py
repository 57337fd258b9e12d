"""Pictures that are to be fetched from the web, as they are ordered (`flows/import_images.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, StringConstraints, field_validator

from darkroom.errors import DarkroomError
from darkroom.ledger import Asset
from darkroom.media.resize import QUALITY
from darkroom.order import Address, Order, field
from darkroom.providers.web.model import LONGEST_URL, MAX_WIDTH

MOST = 500
LONGEST_TOGETHER = 400_000  # characters, as JSON: Prefect takes no parameters of more than 512 KiB
Came = Mapping[str, Asset | DarkroomError]  # by step
Given = tuple[int, str, Asset | DarkroomError]  # its place in the order from 1, its address, what came of it

Url = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_URL)]
Urls = Annotated[list[Url], Field(min_length=1, max_length=MOST)]
Width = Annotated[int, Field(ge=16, le=8192)]
Quality = Annotated[int, Field(ge=1, le=100)]
Product = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)] | None


EXAMPLES = {
    "simple": {
        "summary": "Some pictures",
        "value": {"urls": ["https://shop.example/fox-mug/front.jpg", "https://shop.example/fox-mug/side.jpg"]},
    },
    "smaller": {
        "summary": "Smaller, and of which product",
        "value": {
            "urls": ["https://shop.example/fox-mug/front.jpg"],
            "max_width": 1024,
            "quality": 80,
            "product": "Fox mug",
        },
    },
}

ANSWERS = """Each address is fetched once, at most ten of yours at a time, made smaller and stored; it costs nothing.

HEIC, AVIF, GIF (its first picture), TIFF and BMP become JPEG or PNG, which is told in the `notes` of the picture.

The job's `result` has the pictures that came (`imported`, and `images`: place, address and asset of each) and the
addresses that were `refused`, with `code` and `reason`: `private_address`, `bad_url`, `unknown_host`, `not_found`,
`wrong_type`, `too_large`, `too_many_pixels`, `too_many_redirects` and others. Passwords, signatures and the like are
left out of addresses there: tell them apart by their places (`n`). It fails, with `nothing_imported`,
only if no picture came at all.
"""


class Import(Order):
    """Which pictures are wanted, and how large."""

    over_http = Address(
        path="/v1/imports",
        name="order_import",
        kind="import-images",
        tag="Images",
        summary="Import pictures from the web",
        answers=ANSWERS,
        examples=EXAMPLES,
    )

    urls: Urls = field(
        "Addresses",
        "Of pictures on the public web (JPEG, PNG, WebP, HEIC, AVIF, GIF, TIFF, BMP), 1 to 500; one given twice is "
        "fetched once.",
    )
    max_width: Width = field("Widest", "Pixels: what is wider becomes smaller, nothing becomes larger.", MAX_WIDTH)
    quality: Quality = field("Quality", "Of JPEG and WebP, 1 to 100. PNG loses nothing.", QUALITY)
    product: Product = field("Product", "What the pictures show, for whoever looks at the result.", None)

    @field_validator("urls")
    @classmethod
    def _not_too_long_together(cls, urls: list[str]) -> list[str]:
        # About as JSON writes them: what is not ASCII becomes longer.
        if sum(len(url.encode("ascii", "backslashreplace")) for url in urls) > LONGEST_TOGETHER:
            raise ValueError(
                f"together they have more than {LONGEST_TOGETHER:,} characters: make several imports of it"
            )
        return urls

    def steps(self) -> list[str]:
        """Name for each address the step that brings it: the same one for the same address."""
        first: dict[str, str] = {}
        # The fragment is for browsers: no server is sent it.
        return [first.setdefault(url.partition("#")[0], f"image-{n:04}") for n, url in enumerate(self.urls, 1)]

    def given(self, came: Came) -> list[Given]:
        """Return each address as it was given, with what came of it."""
        return [(n, url, came[step]) for n, (url, step) in enumerate(zip(self.urls, self.steps(), strict=True), 1)]
