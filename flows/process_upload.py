"""An uploaded set of things, each processed by its own job, side by side; and the join when the last has ended.

Triggered by the event `upload.received`, the Prefect UI, or `prefect deployment run process-upload/on-demand -p
upload=u-1 -p 'items=[{"image": "https://…"}]'`. An item's fields are those of the deployment that it is handed to; what
all of them have in common is said once. At most so many are under way at a time. An item that fails is listed in the
result and stops none of the others. Fails where none came to a good end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field

from darkroom import Invoked, Job, Order, field, pipeline
from darkroom.blocks.notifier import Notifier
from darkroom.errors import BadInput, DarkroomError, Permanent
from darkroom.events.types import Address
from darkroom.flows.orders.edit import Edit
from darkroom.flows.orders.picture import Picture
from darkroom.order import OwnId

LISTED = 20  # failures that a message names

Each = Literal["edit-image", "generate-image"]
Items = Annotated[list[dict[str, Any]], Field(min_length=1, max_length=200)]
AtOnce = Annotated[int, Field(ge=1, le=20)]
Came = Invoked | DarkroomError

MODELS: Mapping[Each, type[Order]] = {"edit-image": Edit, "generate-image": Picture}


class Upload(Order):
    """What was uploaded, and what is done to it."""

    upload: OwnId = field("Upload", "Your application's id of it.")
    items: Items = field("Items", 'Each with the fields of its deployment, e.g. {"image": "https://…"}: 1 to 200.')
    each: Each = field("Each by", "The deployment that an item is handed to.", "edit-image")
    in_common: dict[str, Any] = field(
        "In common",
        "Fields that all items have, unless they bring their own.",
        {"post": [{"step": "remove_background"}]},
    )
    at_once: AtOnce = field("At once", "Items under way at a time, 1 to 20.", 5)
    email: Address | None = field("Mail address", "Who hears of the end. Empty: the notifier's usual recipient.", None)

    def of_items(self) -> list[dict[str, Any] | BadInput]:
        """Return the outcome of each item's job, or what is wrong with the item."""
        return [self._parameters(item) for item in self.items]

    def _parameters(self, item: Mapping[str, Any]) -> dict[str, Any] | BadInput:
        try:
            # As its deployment would read it: what is wrong with one item is its own failure.
            chosen = MODELS[self.each].read({**self.in_common, **item})
        except BadInput as error:
            return error
        return chosen.parameters()


@pipeline(Upload)
def process_upload(job: Job, order: Upload) -> dict[str, Any]:
    """Each item of an upload is processed by its own job."""
    given = order.of_items()
    sound = [each for each in given if not isinstance(each, BadInput)]
    started = iter(
        job.invoke_all(order.each, sound, step="item", at_once=order.at_once, heard=partial(_tell_progress, job, given))
    )
    came: list[Came] = [each if isinstance(each, BadInput) else next(started) for each in given]
    result = joined(order, came)
    # By its outcome: a replay that brings more is told of too.
    job.step(f"tell-{result['completed']}-of-{len(came)}", partial(_tell, order, result))
    if not result["completed"]:
        raise nothing_done(came)
    return result


def _tell_progress(job: Job, given: Sequence[object], ended: int) -> None:
    refused = sum(isinstance(each, BadInput) for each in given)
    job.progress(100 * (refused + ended) / len(given), f"{refused + ended} of {len(given)} items")


def joined(order: Upload, came: Sequence[Came]) -> dict[str, Any]:
    """Return the job's result: each item by its place `n` from 1, among those that are done or those that failed."""
    done = [(n, each) for n, each in enumerate(came, 1) if isinstance(each, Invoked)]
    failed = [(n, each) for n, each in enumerate(came, 1) if isinstance(each, DarkroomError)]
    return {
        "upload": order.upload,
        "completed": len(done),
        "failed": len(failed),
        "items": [{"n": n, "job_id": each.job_id, "assets": [asset.id for asset in each.assets]} for n, each in done],
        "failures": [{"n": n, "code": error.code, "reason": error.message} for n, error in failed],
    }


def nothing_done(came: Sequence[Came]) -> DarkroomError:
    codes = Counter(error.code for error in came if isinstance(error, DarkroomError))
    why = ", ".join(f"{count} × {code}" for code, count in codes.most_common())
    return Permanent(f"None of the items came to a good end: {why}.", code="nothing_done")


def _tell(order: Upload, result: Mapping[str, Any], key: str) -> str:
    subject = f"Upload: {result['completed']} of {len(order.items)} items done"
    lines = [f"Upload {order.upload}: {result['completed']} done, {result['failed']} failed.", ""]
    lines += [f"Item {each['n']}: {each['code']}" for each in result["failures"][:LISTED]]
    if result["failed"] > LISTED:
        lines.append(f"… and {result['failed'] - LISTED} more.")
    return Notifier.load_default().send(subject, "\n".join(lines), to=order.email, key=key)
