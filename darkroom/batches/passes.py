"""The two passes over a manifest: drafts that are cheap, then finals of those that were chosen.

A draft is the same row at the lowest quality the model has, or by a cheaper model, or as the order says; the steps
afterwards are left to the final. A final is the row at the highest quality. Where a model has no cheaper draft, the
draft is the final already, with its steps: it need not be made twice, and who chooses it gets the picture they saw.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from darkroom.batches.pictures import (
    ARGUMENTS,
    Picture,
    accepted_by,
    as_picture,
    cheaper_than,
    choices_of,
    merged,
    model_of,
)

QUALITY = "quality"
# What one model is told says nothing to another: schnell is done in 4 steps where dev takes 28.
OF_ONE_MODEL = frozenset({"num_inference_steps", QUALITY})
OF_A_STYLE = frozenset({"lora", "lora_scale"})
PAINTS_STYLES = ("fal-ai/flux/dev", "fal-ai/flux-lora")


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What is different in a pass: the model, and whatever else a row may say, e.g. `{"quality": "medium"}`."""

    model: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def change(self) -> Picture:
        """Return the arguments as fields of a picture. Raises BadInput."""
        return as_picture(self.arguments).picture


@dataclass(frozen=True, kw_only=True)
class Passes:
    """What is ordered of each; None: as the model has it."""

    draft: Pass | None = None
    final: Pass | None = None


AS_USUAL = Passes()
AS_IT_IS, LOW, HIGH = Pass(), Pass(arguments={QUALITY: "low"}), Pass(arguments={QUALITY: "high"})


def draft_of(picture: Picture, order: Passes = AS_USUAL) -> Picture:
    """Return what the first pass asks for, equal to `final_of` where there is no draft.

    Raises BadInput for the order.
    """
    change = order.draft or _usual_draft(picture)
    return final_of(picture, order) if change is None else _changed(_without(picture, "post"), change)


def final_of(picture: Picture, order: Passes = AS_USUAL) -> Picture:
    """Return what the second pass asks for. Raises BadInput for the order."""
    return _changed(picture, order.final or (HIGH if _has_quality(picture) else AS_IT_IS))


def _usual_draft(picture: Picture) -> Pass | None:
    if _has_quality(picture):
        return LOW
    cheaper = None if "lora" in picture else cheaper_than(model_of(picture))  # a trained style has no other painter
    return None if cheaper is None else Pass(model=cheaper)


def _has_quality(picture: Picture) -> bool:
    return {"low", "high"} <= choices_of(model_of(picture), QUALITY)


def _changed(picture: Picture, by: Pass) -> Picture:
    if by is AS_IT_IS:
        return picture
    if by.model is None or by.model == model_of(picture):
        return merged(picture, by.change)
    return merged({**_at_another_model(picture, by.model), "model": by.model}, by.change)


def _at_another_model(picture: Picture, model: str) -> Picture:
    """Leave out what the other model does not know."""
    accepted = accepted_by(model)
    if accepted is None:
        return picture
    known = accepted | {"post", "flagged"} | (OF_A_STYLE if model in PAINTS_STYLES else frozenset())
    arguments = {
        name: value
        for name, value in picture.get(ARGUMENTS, {}).items()
        if name in accepted and name not in OF_ONE_MODEL
    }
    kept = {name: value for name, value in picture.items() if name in known}
    return kept | ({ARGUMENTS: arguments} if arguments else {})


def _without(picture: Picture, name: str) -> Picture:
    return {key: value for key, value in picture.items() if key != name}
