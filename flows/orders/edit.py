"""What is to be done to a picture, as it is ordered (`flows/edit_image.py`)."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from darkroom.engine.request_spec import specify
from darkroom.flows.parts.form import shown
from darkroom.flows.parts.picture_steps import MOST_STEPS, FormStep, Size, Step, estimate, first_call, require_room
from darkroom.ledger import OPERATOR, Asset, RequestSpec
from darkroom.providers.web.model import ENDPOINT, LONGEST_URL

KIND = "edit-image"
FETCH = "fetch"
AS_IT_IS = {"max_width": 8192, "quality": 95}  # a picture of the web is written anew, but not made smaller
SUPPOSED = (1024, 1024)  # pixels of a picture that is yet to be fetched, for what its steps cost


def _is_picture(text: str) -> str:
    if not text.startswith(("ast_", "https://", "http://")):
        raise PydanticCustomError("picture", "must be an asset's id, `ast_…`, or a web address")
    return text


Image = Annotated[str, Field(max_length=LONGEST_URL), AfterValidator(_is_picture)]
Steps = Annotated[list[Step], Field(min_length=1, max_length=MOST_STEPS)]
FormSteps = Annotated[list[FormStep], Field(min_length=1, max_length=MOST_STEPS)]

IMAGE = shown("Picture", "Id of a picture of the user's (ast_…), or its address on the web (https://…).")
POST = shown("Steps", "1 to 8, in this order: make it larger, remove the background, mark it.")
USER = shown("User", "Who it is for: a user's name or id.", OPERATOR)


class Edit(BaseModel):
    """Which picture, and what is done to it."""

    model_config = ConfigDict(extra="forbid")

    image: Image = IMAGE
    post: Steps = POST

    @property
    def asset_id(self) -> str | None:
        """Of a picture that is in the store already."""
        return self.image if self.image.startswith("ast_") else None

    def first_call(self, picture: Asset | None) -> RequestSpec | None:
        """What has to be waited for before anything else: the web, or the provider. None where it is ours to do.

        `picture`: the one that is in the store. Raises BadInput for steps that would make it too large.
        """
        require_room(self.post, _size(picture))
        if picture is None:
            return specify(ENDPOINT, {"url": self.image, **AS_IT_IS}, step=FETCH)
        return first_call(self.post, picture)

    def estimate(self, picture: Asset | None) -> Decimal:
        """What it should cost, in USD."""
        return estimate(self.post, _size(picture))


def _size(picture: Asset | None) -> Size:
    return (picture.width or 0, picture.height or 0) if picture else SUPPOSED
