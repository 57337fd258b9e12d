"""A picture that is there becomes another: larger, without its background, marked, in any order.

Triggered by `POST /v1/edits`, the Prefect UI, or `prefect deployment run edit-image/on-demand -p image=ast_019aa1f0d8b4
-p 'post=[{"step": "upscale"}]'`. Needs the blocks `fal-account/default` and the media store. The picture is one of the
user's files, or fetched from the web first. What happens to it is told in `flows/parts/post_processing.py`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from blocks.ledger import OPERATOR, Asset, RequestSpec
from blocks.web.model import ENDPOINT, LONGEST_URL
from flows.engine import Job, drive, specify
from flows.parts.form import shown
from flows.parts.picture_steps import (
    MOST_STEPS,
    FormStep,
    Size,
    Step,
    estimate,
    first_call,
    require_logos,
    require_picture,
    require_room,
)
from flows.parts.post_processing import post_process

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


def edit(job: Job) -> dict[str, Any]:
    order = Edit.model_validate(job.parameters)
    require_logos(order.post, job.asset, user_id=job.user_id)
    (done,) = post_process(job, [_picture(job, order)], order.post)
    return {"pictures": [done.id]}


def _picture(job: Job, order: Edit) -> Asset:
    if order.asset_id is not None:
        return require_picture(job.asset(order.asset_id), user_id=job.user_id, field="image")
    return job.store(job.infer(ENDPOINT, {"url": order.image, **AS_IT_IS}, step=FETCH))[0]


@flow(name=KIND, retries=0, log_prints=False)
def edit_image(image: Image = IMAGE, post: FormSteps = POST, user: str = USER) -> State[Any]:
    """A picture that is there becomes another."""
    order = Edit(image=image, post=[step.chosen() for step in post])
    return drive(edit, parameters=order.model_dump(mode="json", exclude_defaults=True), user=user)
