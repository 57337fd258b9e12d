"""A user's pictures become a LoRA: a face, a thing or a style that `POST /v1/images` can be asked for by its word.

Triggered by `POST /v1/loras`, the Prefect UI, `prefect deployment run train-lora/on-demand -p trigger_word=… -p
'images=["ast_…", …]'`, or `python flows/train_lora.py WORD ast_… ast_… ast_… ast_…` on a running stack. Needs the
blocks `fal-account/default` and the media store. The pictures are brought and checked before anything is paid, the
price is shown, the trainer gets one archive; the run is suspended for the fifteen to thirty minutes it takes, and costs
nothing meanwhile. Then weights and test pictures are stored, and the LoRA is the next version of its trigger word.
Fails with every bad picture named, or with the provider's words; a training of which nobody knows whether it was paid
is never ordered again by itself.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import timedelta
from threading import Lock
from typing import Any

from prefect.logging import get_run_logger

from darkroom import Call, Inference, Job, RetryPolicy, pipeline
from darkroom.engine.resources import current
from darkroom.errors import DarkroomError
from darkroom.flows.orders.training import CHECK, GRID, NOTES, TEST, TRAIN, TRAINER, Training
from darkroom.flows.parts.trained_style import PAINTER
from darkroom.flows.parts.training_pictures import Brought, bring, check
from darkroom.ledger import Asset, Lane, Lora
from darkroom.media.archives import Flaw, told
from darkroom.media.contact_sheet import Sample, contact_sheet
from darkroom.media.formats import Kind
from darkroom.media.training_images import build_archive, with_trigger

# Two dollars: what surely failed is tried once more, what may be under way never.
TRAINING = RetryPolicy(attempts=2, first=timedelta(seconds=30), resubmit_expired=False)

CHECKING = Lock()  # for the memory: all pictures of a training lie there, and a large one as pixels


@pipeline(Training)
def train_lora(job: Job, order: Training) -> dict[str, Any]:
    """Train a LoRA on a user's pictures."""
    fetched: list[Flaw] = []
    brought = bring(job, order.given(), fetched)
    job.show("price", _price(order), description="What the training will cost")
    archive = _archive(job, order, brought, told(fetched))
    trained = job.infer(TRAINER, order.training(archive), step=TRAIN, retry=TRAINING, lane=Lane.TRAINING)
    lora, weights = _registered(job, order, trained)
    grid = _tested(job, order, lora, weights)
    # By its word it is found from here on; by its id it was since it was registered.
    current().ledger.loras.ready(lora.id, sample=grid.id)
    return {"lora_id": lora.id, "trigger_word": lora.trigger_word, "version": lora.version, **_notes(job)}


def _archive(job: Job, order: Training, brought: Brought, noticed: Sequence[str]) -> Asset:
    """Return the archive that the trainer gets. Where it is built, tell what was noticed of the pictures.

    `noticed`: as they were fetched. Raise BadInput, which names every picture that is no good.
    """
    if (made := _made(job, CHECK)) is not None:
        return made
    job.require_going_on()
    with CHECKING:
        try:
            checked = check(job, order.given(), brought, allow_similar=order.allow_similar)
        except DarkroomError as error:
            raise error.of(step=CHECK) from error
        notes = [*noticed, *told(checked.notes)]
        images = with_trigger(checked.images, order.trigger_word)
        get_run_logger().info("%s pictures are good; it will cost about $%.2f", len(images), order.estimate())
        job.progress(1, f"{len(images)} pictures checked" + (f", {len(notes)} notes" if notes else ""))
        content = build_archive(images)
    # Before the archive: once that is there, nobody checks the pictures again.
    _tell(job, notes)
    return job.make(CHECK, lambda: content, kind=Kind.ARCHIVE)


def _tell(job: Job, notes: Sequence[str]) -> None:
    """Show and keep what there is to be told of the pictures, once."""
    if not notes or _made(job, NOTES) is not None:
        return
    for note in notes:
        get_run_logger().warning("%s", note)
    job.show("notes", "\n".join(f"- {note}" for note in notes), description="What was noticed of the pictures")
    lines = "".join(f"{json.dumps({'note': note}, ensure_ascii=False)}\n" for note in notes)
    # A file of the job, so it can be read while the training is under way.
    job.make(NOTES, lambda: lines.encode(), kind=Kind.TABLE)


def _made(job: Job, step: str) -> Asset | None:
    return next((asset for asset in job.assets if asset.step == step), None)


def _notes(job: Job) -> dict[str, list[str]]:
    """Return what there was to be told of the pictures, for the job's result."""
    kept = _made(job, NOTES)
    return {"notes": [json.loads(line)["note"] for line in job.read(kept).splitlines()]} if kept else {}


def _registered(job: Job, order: Training, trained: Inference) -> tuple[Lora, Asset]:
    """Store the weights and register the LoRA."""
    # The trainer's refinement names its files in this order.
    weights, config = job.store(trained)[:2]
    # It is the user's from here on, whatever the outcome of its test pictures: it is paid.
    lora = current().ledger.loras.register(
        job.id, user_id=job.user_id, trigger_word=order.trigger_word, weights=weights.id, config=config.id
    )
    return lora, weights


def _tested(job: Job, order: Training, lora: Lora, weights: Asset) -> Asset:
    """Make the pictures to judge the LoRA by, side by side, on one sheet."""
    job.progress(99, "makes test pictures")
    pictures = _test_pictures(job, order, weights)

    def sheet() -> bytes:
        samples = [
            Sample(content=job.read(picture), label=f"{n}. {prompt}")
            for n, (picture, prompt) in enumerate(zip(pictures, order.prompts(), strict=True), start=1)
        ]
        return contact_sheet(samples, title=f"{lora.trigger_word}, version {lora.version} ({order.steps:,} steps)")

    return job.make(GRID, sheet)


def _test_pictures(job: Job, order: Training, weights: Asset) -> list[Asset]:
    """Make the test pictures. One that fails fails the training's job."""
    calls = [
        Call(step=f"{TEST}-{n}", endpoint=PAINTER, arguments=each)
        for n, each in enumerate(order.pictures(weights), start=1)
    ]
    pictures, failures = list[Asset](), list[DarkroomError]()
    for _, outcome in job.each(calls):
        if isinstance(outcome, DarkroomError):
            failures.append(outcome)  # raised when the others are stored: they are paid
        else:
            pictures += job.store(outcome)
    if failures:
        raise failures[0]
    return pictures


def _price(order: Training) -> str:
    head = ["| What | Model | At most |", "| --- | --- | ---: |"]
    named = {TRAIN: "The training", TEST: f"{len(order.pictures(None))} test pictures"}
    lines = [f"| {named[part.step]} | `{part.endpoint}` | ${part.usd:.2f} |" for part in order.parts()]
    return "\n".join([*head, *lines, f"| **In all** | | **${order.estimate():.2f}** |"])


if __name__ == "__main__":
    train_lora(sys.argv[1], images=sys.argv[2:])
