"""A prompt becomes a postcard: a picture in the media store.

Ordered by `POST /v1/orders/make-postcard`, in Prefect's UI, by `prefect deployment run make-postcard/on-demand -p
prompt="a fox"`, or by the event `postcard.wanted`.
"""

from __future__ import annotations

from typing import Any

from darkroom import EventData, Job, Order, event, field, pipeline


@event("postcard.wanted")
class PostcardWanted(EventData):
    prompt: str


class Postcard(Order):
    prompt: str = field("Prompt", "What it shows.", min_length=1, max_length=4000)
    model: str = field("Model", "A picture model of fal's.", "fal-ai/flux/dev")


@pipeline(Postcard)
def make_postcard(job: Job, order: Postcard) -> dict[str, Any]:
    """Make a postcard from a prompt."""
    picture = job.store(job.infer(order.model, {"prompt": order.prompt}, step="paint"))[0]
    return {"picture": picture.id}
