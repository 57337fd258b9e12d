"""The steps after a picture: each is its own node, and its picture is stored under its name.

A node is a call at the provider, or a file that we make. So a failure in the fourth does not do the first three again.
A call is known again by what it asks for and by the content of its picture, also in another job of the user: an order
that differs from an earlier one in its last step pays for that step alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from darkroom import Job, Waiting
from darkroom.errors import Permanent
from darkroom.flows.parts.picture_steps import AnyStep, Size, Upscale, Watermark, require_capacity, step_name
from darkroom.ledger import Asset
from darkroom.media.transparency import may_be_transparent, with_transparency_of
from darkroom.media.watermark import TEXT, Mark, watermark


def post_process(job: Job, pictures: Sequence[Asset], steps: Sequence[AnyStep]) -> list[Asset]:
    """Carry out the steps on all pictures side by side. Raise `Waiting` until all have gone through.

    Nothing is done to a hidden picture, and none is among those that are returned.
    """
    pictures = [picture for picture in pictures if not picture.hidden]
    done: list[Asset] = []
    finished, waits = 0, set[str]()
    for number, picture in enumerate(pictures, 1):
        try:
            for after in _chain(job, picture, steps, number=number if len(pictures) > 1 else None):
                picture = after
                finished += 1
            if not picture.hidden:
                done.append(picture)
        except Waiting as waiting:  # the other pictures go on meanwhile
            waits |= waiting.refs
    _tell(job, finished, of=len(steps) * len(pictures))
    if waits:
        raise Waiting(waits)
    return done


def _tell(job: Job, finished: int, *, of: int) -> None:
    if of:
        job.progress(100 * finished / of, f"{finished} of {of} steps after the picture")


def _chain(job: Job, picture: Asset, steps: Sequence[AnyStep], *, number: int | None) -> Iterator[Asset]:
    """Yield what each step makes of what the one before it has made.

    `number`: of the picture, where there are several.
    """
    # Once more, by its real size: the order may have had to suppose one.
    require_capacity(steps, _size(picture))
    for n, step in enumerate(steps, 1):
        picture = _carry_out(job, step, picture, name=step_name(step, n, number))
        yield picture
        if picture.hidden:
            return


def _carry_out(job: Job, step: AnyStep, picture: Asset, *, name: str) -> Asset:
    if isinstance(step, Watermark):
        return job.make(name, partial(_marked, job, step, picture))
    call = step.call(picture)
    assert call is not None
    made = _picture_of(job.store(job.infer(*call, step=name, reuse=True)), step=name)
    return _as_transparent(job, made, picture, name=f"{name}-transparency") if isinstance(step, Upscale) else made


def _picture_of(files: Sequence[Asset], *, step: str) -> Asset:
    """Return the first picture of an answer. Raise Permanent where it has none, for which any model is good."""
    for file in files:
        if file.content_type.startswith("image/") and file.width is not None:
            return file
    raise Permanent(f"{step}: no picture came of it.", code="unexpected_output").of(step=step)


def _marked(job: Job, step: Watermark, picture: Asset) -> bytes:
    mark = Mark(
        text=step.text or TEXT,
        logo=job.read(job.asset(step.logo)) if step.logo else None,
        position=step.position,
        opacity=step.opacity,
        height=step.height,
        margin=step.margin,
    )
    return watermark(job.read(picture), mark)


def _as_transparent(job: Job, made: Asset, original: Asset, *, name: str) -> Asset:
    """Keep transparent what was."""
    # Models that paint do not know of it, and paint it black.
    if original.content_type == "image/jpeg":  # it cannot be transparent
        return made
    # Once it is made, neither picture has to be read to know that it is needed.
    known = any(asset.step == name for asset in job.assets)
    if not known and (not may_be_transparent(job.read(original)) or may_be_transparent(job.read(made))):
        return made
    return job.make(name, lambda: with_transparency_of(job.read(made), job.read(original)))


def _size(picture: Asset) -> Size:
    assert picture.width is not None and picture.height is not None, "it was verified as a picture"
    return picture.width, picture.height
