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

from darkroom import Job, pipeline
from darkroom.engine.request_spec import priced_at_most
from darkroom.engine.resources import current
from darkroom.flows.orders.picture import STEP, Picture
from darkroom.flows.parts.picture_steps import require_logos
from darkroom.flows.parts.post_processing import post_process
from darkroom.flows.parts.trained_style import find_style


@pipeline(Picture)
def generate_image(job: Job, picture: Picture) -> dict[str, Any] | None:
    """Make a picture from a prompt, and keep it in the media store."""
    # Before anything is paid: a run that a person started in Prefect was not checked against the ledger.
    require_logos(picture.post, job.asset, user_id=job.user_id)
    style = find_style(current().ledger, job.user_id, picture.lora) if picture.lora else None
    # A model of which nobody knows the price may cost as much as the order allows.
    with priced_at_most(picture.max_usd):
        made = job.store(job.infer(picture.endpoint, picture.input(style), step=STEP, reuse=picture.known_again))
    if not picture.post:
        return None
    return {"pictures": [asset.id for asset in post_process(job, made, picture.post)]}


if __name__ == "__main__":
    generate_image(" ".join(sys.argv[1:]))
