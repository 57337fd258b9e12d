"""A picture that is there becomes another: larger, without its background, marked, in any order.

Triggered by `POST /v1/edits`, the Prefect UI, or `prefect deployment run edit-image/on-demand -p image=ast_019aa1f0d8b4
-p 'post=[{"step": "upscale"}]'`. Needs the blocks `fal-account/default` and the media store. The picture is one of the
user's files, or fetched from the web first. What happens to it is told in `flows/parts/post_processing.py`.
"""

from __future__ import annotations

from typing import Any

from darkroom import Job, pipeline
from darkroom.flows.orders.edit import AS_IT_IS, FETCH, Edit
from darkroom.flows.parts.picture_steps import require_logos, require_picture
from darkroom.flows.parts.post_processing import post_process
from darkroom.ledger import Asset
from darkroom.providers.web.model import ENDPOINT


@pipeline(Edit)
def edit_image(job: Job, order: Edit) -> dict[str, Any]:
    """Make another picture of one that is there."""
    # Before anything is paid: a run that a person started in Prefect was not checked against the ledger.
    require_logos(order.post, job.asset, user_id=job.user_id)
    (done,) = post_process(job, [_picture(job, order)], order.post)
    return {"pictures": [done.id]}


def _picture(job: Job, order: Edit) -> Asset:
    if order.asset_id is not None:
        return require_picture(job.asset(order.asset_id), user_id=job.user_id, field="image")
    return job.store(job.infer(ENDPOINT, {"url": order.image, **AS_IT_IS}, step=FETCH))[0]
