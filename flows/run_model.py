"""Any model is run: its input checked by its card, its files stored, the rest of its answer kept as the job's result.

Triggered by `POST /v1/generations`, the Prefect UI, `darkroom run MODEL -i prompt="a fox"`, or `prefect deployment run
run-model/on-demand -p model=fal-ai/nano-banana -p 'input={"prompt": "a fox"}'`. Needs the blocks
`fal-account/default` and the media store. Files that the input names are brought to the provider just before the
submit. Every file of the answer is stored, of whichever kind; steps afterwards are done to the pictures among them
(`flows/parts/post_processing.py`). Fails with the provider's words; a training that may have been paid is left to a
person.
"""

from __future__ import annotations

import json
from typing import Any

from darkroom import Job, pipeline
from darkroom.engine.job_files import Inference
from darkroom.engine.request_spec import priced_at_most
from darkroom.engine.resources import current
from darkroom.flows.orders.bounds import require_within
from darkroom.flows.orders.generation import STEP, Generation
from darkroom.flows.parts.picture_steps import require_logos
from darkroom.flows.parts.post_processing import post_process
from darkroom.ledger import Asset
from darkroom.media.formats import Kind
from darkroom.models import rest_of

MOST_RESULT_BYTES = 32 << 10  # of what stands in the job's own record; more is a file beside it
PICTURES = frozenset({"image/jpeg", "image/png", "image/webp"})


@pipeline(Generation)
def run_model(job: Job, order: Generation) -> dict[str, Any]:
    """Run any model, and keep what it makes."""
    require_logos(order.post, job.asset, user_id=job.user_id)
    made = _run(job, order)
    files = job.store(made)
    result = _result(job, made, files)
    if order.post:
        pictures = [asset for asset in files if asset.content_type in PICTURES]
        result["pictures"] = [asset.id for asset in post_process(job, pictures, order.post)]
    return result


def _run(job: Job, order: Generation) -> Inference:
    style = order.style(current().ledger, user_id=job.user_id)
    if not job.calls:  # a run that a person started in Prefect: nothing was checked against the ledger yet
        require_within(order.estimate(order.spec(style)), order.max_usd)
    with priced_at_most(order.max_usd):
        return job.infer(order.model, order.arguments(style), step=STEP, lane=order.lane, retry=order.retry)


def _result(job: Job, made: Inference, files: list[Asset]) -> dict[str, Any]:
    """Return what the answer says beside its files, with their ids in their places; a long one as a file itself."""
    places: dict[str, str] = {}
    for file, asset in zip(made.files, files, strict=True):
        # One address may stand in the answer twice.
        places.setdefault(file.url, asset.id)
    rest = rest_of(made.output, places)
    written = json.dumps(rest, ensure_ascii=False).encode()
    if len(written) <= MOST_RESULT_BYTES:
        return {"output": rest, "files": [asset.id for asset in files]}
    kept = job.make("output", lambda: written, kind=Kind.FILE)
    return {"output_asset_id": kept.id, "files": [asset.id for asset in files]}
