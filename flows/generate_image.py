"""A prompt becomes a picture in the media store.

Triggered by `POST /v1/images`, the Prefect UI, `prefect deployment run generate-image/on-demand -p prompt="a fox"`, or
`python flows/generate_image.py "a fox"` on a running stack. Needs the blocks `fal-account/default` and the media store.
The request waits in the ledger's fair queue, is submitted once, and the run suspends until fal's webhook brings it
back. It may be in a style or show somebody that was trained before (`flows/parts/trained_style.py`). Steps that were
asked for afterwards follow, each stored (`flows/parts/post_processing.py`). Fails with the provider's words; a failure
that may pass is tried again, each attempt on record.
"""

from __future__ import annotations

import sys
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from darkroom import Job, drive
from darkroom.engine.resources import current
from darkroom.flows.orders.picture import (
    ARGUMENTS,
    IMAGE_SIZE,
    KIND,
    LORA,
    LORA_SCALE,
    MODEL,
    NUM_IMAGES,
    POST,
    PROMPT,
    SEED,
    STEP,
    USER,
    Count,
    ImageSize,
    LoraName,
    ModelName,
    Picture,
    Prompt,
    Scale,
    Seed,
)
from darkroom.flows.parts.picture_steps import FormSteps, require_logos
from darkroom.flows.parts.post_processing import post_process
from darkroom.flows.parts.trained_style import TRIAL, find_style


def generate(job: Job) -> dict[str, Any] | None:
    picture = Picture.model_validate(job.parameters)
    require_logos(picture.post, job.asset, user_id=job.user_id)
    style = find_style(current().ledger, job.user_id, picture.lora) if picture.lora else None
    made = job.store(job.infer(picture.endpoint, picture.input(style), step=STEP, reuse=picture.known_again))
    if not picture.post:
        return None
    return {"pictures": [asset.id for asset in post_process(job, made, picture.post)]}


@flow(name=KIND, retries=0, log_prints=False)
def generate_image(
    prompt: Prompt = PROMPT,
    model: ModelName = MODEL,
    image_size: ImageSize = IMAGE_SIZE,
    seed: Seed = SEED,
    num_images: Count = NUM_IMAGES,
    arguments: dict[str, Any] = ARGUMENTS,
    lora: LoraName = LORA,
    lora_scale: Scale = LORA_SCALE,
    post: FormSteps = POST,
    user: str = USER,
) -> State[Any]:
    """A prompt becomes a picture in the media store."""
    picture = Picture(
        prompt=prompt,
        model=model,
        image_size=image_size,
        seed=seed,
        num_images=num_images,
        arguments=arguments,
        lora=lora,
        lora_scale=lora_scale,
        post=[step.chosen() for step in post],
    )
    picture.spec(TRIAL if picture.lora else None)  # wrong input ends here, before anything is on record
    return drive(generate, parameters=picture.model_dump(mode="json", exclude_defaults=True), user=user)


if __name__ == "__main__":
    generate_image(" ".join(sys.argv[1:]))
