"""What is to be done to a picture, as it is ordered (`flows/edit_image.py`)."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from darkroom.engine.request_spec import build_request
from darkroom.flows.orders.bounds import MAX_USD, MaxUsd, require_within
from darkroom.flows.parts.picture_steps import (
    MOST_STEPS,
    FormStep,
    Size,
    Step,
    estimate,
    first_call,
    parts,
    require_logos,
    require_picture,
    require_steps,
)
from darkroom.ledger import Asset, Ledger, RequestSpec
from darkroom.order import Address, InForm, Order, Prepared, field
from darkroom.providers.web.model import ENDPOINT, LONGEST_URL

FETCH = "fetch"
AS_IT_IS = {"max_width": 8192, "quality": 95}  # a picture of the web is written anew, but not made smaller
SUPPOSED = (1024, 1024)  # pixels of a picture that is yet to be fetched, for what its steps cost


def _is_picture(text: str) -> str:
    if not text.startswith(("ast_", "https://", "http://")):
        raise PydanticCustomError("picture", "must be an asset's id, `ast_…`, or a web address")
    return text


Image = Annotated[str, Field(max_length=LONGEST_URL), AfterValidator(_is_picture)]
FormSteps = Annotated[list[FormStep], Field(min_length=1, max_length=MOST_STEPS)]
Steps = Annotated[list[Step], Field(min_length=1, max_length=MOST_STEPS), InForm(type=FormSteps)]

EXAMPLES = {
    "larger": {"summary": "Larger", "value": {"image": "ast_019aa1f0d8b4", "post": ["upscale"]}},
    "product": {
        "summary": "A product's picture from the web, cut out and marked with a logo",
        "value": {
            "image": "https://shop.example/fox-mug/front.jpg",
            "post": [
                "remove_background",
                {"step": "upscale", "model": "fal-ai/esrgan", "factor": 2},
                {"step": "watermark", "logo": "ast_019aa1f0c111", "position": "top_right", "opacity": 0.5},
            ],
        },
    },
}

ANSWERS = """The steps are done in the order in which they are given.

The picture of each step is in the job's `assets`, the last one in `result.pictures`. If a step fails those before
it are kept, and a replay goes on from there. A call that you have paid before, with the same options on the same
picture, is not paid again: to try another watermark costs nothing.
"""


class Edit(Order):
    """Which picture, and what is done to it."""

    over_http = Address(
        path="/v1/edits",
        name="order_edit",
        kind="edit-image",
        tag="Images",
        summary="Edit a picture",
        answers=ANSWERS,
        examples=EXAMPLES,
    )

    image: Image = field("Picture", "Id of a picture of the user's (ast_…), or its address on the web (https://…).")
    post: Steps = field("Steps", "1 to 8, in this order: make it larger, remove the background, mark it.")

    max_usd: MaxUsd = MAX_USD

    def prepare(self, ledger: Ledger, *, user_id: str) -> Prepared:
        picture = None
        if self.asset_id is not None:
            picture = require_picture(ledger.assets.get(self.asset_id), user_id=user_id, field="image")
        require_logos(self.post, ledger.assets.get, user_id=user_id)
        whole = self.estimate(picture)
        require_within(whole, self.max_usd)
        return Prepared(first=self.first_call(picture), estimate_usd=whole, parts=parts(self.post, _size(picture)))

    @property
    def asset_id(self) -> str | None:
        """Return the id of a picture that is in the store already."""
        return self.image if self.image.startswith("ast_") else None

    def first_call(self, picture: Asset | None) -> RequestSpec | None:
        """Return the call to wait for before anything else: the web, or the provider. None where it is ours to do.

        `picture`: the one that is in the store. Raises BadInput for steps that would make it too large.
        """
        require_steps(self.post, _size(picture))
        if picture is None:
            return build_request(ENDPOINT, {"url": self.image, **AS_IT_IS}, step=FETCH)
        return first_call(self.post, picture)

    def estimate(self, picture: Asset | None) -> Decimal:
        """Estimate what the edit should cost, in USD."""
        return estimate(self.post, _size(picture))


def _size(picture: Asset | None) -> Size:
    return (picture.width or 0, picture.height or 0) if picture else SUPPOSED
