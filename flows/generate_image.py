"""A prompt becomes a picture in the media store.

Triggered by `POST /v1/images`, the Prefect UI, `prefect deployment run generate-image/on-demand -p prompt="a fox"`, or
`python flows/generate_image.py "a fox"` on a running stack. Needs the blocks `fal-account/default` and the media store.
The request waits in the ledger's fair queue, is submitted once, and the run suspends until fal's webhook brings it
back. Fails with the provider's words; a failure that may pass is tried again, each attempt on record.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import BaseModel, ConfigDict, Field

from blocks.errors import BadInput
from blocks.fal import find_model
from blocks.ledger import OPERATOR, RequestSpec
from flows.engine import Job, drive

KIND = "generate-image"
STEP = "generate"

Prompt = Annotated[str, Field(title="Prompt", description="What the picture shows.", min_length=1, max_length=4000)]
ModelName = Annotated[
    Literal["fal-ai/flux/dev", "fal-ai/flux/schnell", "fal-ai/flux-lora", "openai/gpt-image-2"],
    Field(title="Model", description="FLUX dev: good and cheap. schnell: drafts. GPT Image 2: text in pictures."),
]


class Size(BaseModel):
    """A size of your own, in pixels."""

    model_config = ConfigDict(extra="forbid")

    width: int = Field(title="Width", ge=64, le=3840, description="Pixels.")
    height: int = Field(title="Height", ge=64, le=3840, description="Pixels.")


Preset = Literal["square_hd", "square", "portrait_4_3", "portrait_16_9", "landscape_4_3", "landscape_16_9", "auto"]
ImageSize = Annotated[
    Preset | Size | None,
    Field(title="Size", description="A named size, or width and height. Empty: the model's own (landscape 4:3)."),
]
Seed = Annotated[
    int | None,
    Field(title="Seed", ge=0, le=2**53 - 1, description="Same seed and prompt: same picture. GPT Image 2 has none."),
]
Count = Annotated[int, Field(title="Number of pictures", ge=1, le=4, description="Each is paid.")]
Arguments = Annotated[
    dict[str, Any],
    Field(title="More arguments", description='The model\'s own, e.g. {"output_format": "png", "quality": "low"}.'),
]


class Picture(BaseModel):
    """What a picture is asked for with."""

    model_config = ConfigDict(extra="forbid")

    prompt: Prompt
    model: ModelName = "fal-ai/flux/dev"
    image_size: ImageSize = None
    seed: Seed = None
    num_images: Count = 1
    arguments: Arguments = Field(default_factory=dict)

    def spec(self) -> RequestSpec:
        """The paid call it takes. Raises BadInput for what the model does not accept."""
        model = find_model(self.model)
        checked = model.validate(self.input())
        return RequestSpec(step=STEP, endpoint=self.model, input=checked, estimate_usd=model.estimate(checked))

    def input(self) -> dict[str, Any]:
        """The model's input: the named fields that were given, and the arguments beside them."""
        named = self.model_dump(mode="json", exclude={"model", "arguments"}, exclude_none=True, exclude_defaults=True)
        if twice := sorted(set(self.arguments) & {"prompt", "image_size", "seed", "num_images"}):
            raise BadInput(f"Give {', '.join(twice)} beside `arguments`, not inside.", field=f"arguments.{twice[0]}")
        return named | self.arguments


def generate(job: Job) -> None:
    picture = Picture.model_validate(job.parameters)
    result = job.infer(picture.model, picture.input(), step=STEP)
    job.store(result)


@flow(name=KIND, flow_run_name="{model}", retries=0, log_prints=False)
def generate_image(
    prompt: Prompt,
    model: ModelName = "fal-ai/flux/dev",
    image_size: ImageSize = None,
    seed: Seed = None,
    num_images: Count = 1,
    arguments: Arguments = {},  # noqa: B006  (the UI's form shows it; nobody changes it)
    user: Annotated[str, Field(title="User", description="For whom: a user's name or id.")] = OPERATOR,
) -> State[Any]:
    """A prompt becomes a picture in the media store."""
    picture = Picture(
        prompt=prompt, model=model, image_size=image_size, seed=seed, num_images=num_images, arguments=arguments
    )
    picture.spec()  # wrong input ends here, before anything is on record
    return drive(generate, parameters=picture.model_dump(mode="json", exclude_defaults=True), user=user)


if __name__ == "__main__":
    generate_image(" ".join(sys.argv[1:]))
