"""Steps after a picture, as they are asked for: what each calls, what they cost, and how large the picture becomes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from darkroom.errors import BadInput
from darkroom.flows.parts.picture_steps import (
    FormStep,
    Steps,
    estimate,
    first_call,
    require_capacity,
    require_steps,
    step_name,
)
from darkroom.ledger import Asset
from darkroom.providers.models import find_model

STEPS: TypeAdapter[Any] = TypeAdapter(Steps)
FOX = Asset(id="ast_1", user_id="u1", key="k", sha256="f0", content_type="image/jpeg", bytes=1, width=800, height=600)


def test_a_name_alone_is_the_step_as_it_usually_is() -> None:
    """Names and objects may be mixed."""
    assert STEPS.validate_python(["upscale", {"step": "watermark"}]) == STEPS.validate_python(
        [{"step": "upscale", "model": "fal-ai/clarity-upscaler", "factor": 2}, "watermark"]
    )


def test_steps_survive_being_put_on_record() -> None:
    """Also as what was given alone: a job's parameters are read again and again."""
    given = ["upscale", {"step": "watermark", "text": "© fox", "position": "top"}, "remove_background"]
    steps = STEPS.validate_python(given)
    recorded = STEPS.dump_python(steps, mode="json", exclude_defaults=True)
    assert recorded == [{"step": "upscale"}, given[1], {"step": "remove_background"}]
    assert STEPS.validate_python(recorded) == steps


@pytest.mark.parametrize(
    ("step", "where"),
    [
        ("enlarge", (0,)),
        (7, (0,)),
        (None, (0,)),
        ({}, (0,)),
        ({"factor": 2}, (0,)),
        ({"step": ["upscale"]}, (0,)),
        ({"step": "upscale", "factor": 0.5}, (0, "factor")),
        ({"step": "upscale", "model": "fal-ai/flux/dev"}, (0, "model")),
        ({"step": "remove_background", "factor": 2}, (0, "factor")),
        ({"step": "watermark", "text": "two\nlines"}, (0, "text")),
        ({"step": "watermark", "text": "  "}, (0, "text")),
        ({"step": "watermark", "text": "狐"}, (0, "text")),
        ({"step": "watermark", "text": "x" * 201}, (0, "text")),
        ({"step": "watermark", "logo": "../../etc/passwd"}, (0, "logo")),
        ({"step": "watermark", "text": "x", "logo": "ast_1"}, (0,)),
        ({"step": "watermark", "position": "middle"}, (0, "position")),
    ],
)
def test_a_wrong_step_is_refused_where_it_is_wrong(step: object, where: tuple[object, ...]) -> None:
    """About the step that was meant, and about no other."""
    with pytest.raises(ValidationError) as caught:
        STEPS.validate_python([step])
    assert [error["loc"] for error in caught.value.errors()] == [where]


@pytest.mark.parametrize(
    ("step", "endpoint", "input"),
    [
        ("upscale", "fal-ai/clarity-upscaler", {"upscale_factor": 2.0}),
        ({"step": "upscale", "factor": 1.5}, "fal-ai/clarity-upscaler", {"upscale_factor": 1.5}),
        (
            {"step": "upscale", "model": "fal-ai/esrgan", "factor": 4},
            "fal-ai/esrgan",
            {"scale": 4.0, "output_format": "jpeg"},
        ),
        ("remove_background", "fal-ai/birefnet/v2", {}),
    ],
)
def test_a_step_at_a_provider_is_a_call_its_model_accepts(step: object, endpoint: str, input: dict[str, Any]) -> None:
    """With the picture by its asset."""
    spec = first_call(STEPS.validate_python([step]), FOX)
    assert spec is not None
    assert (spec.endpoint, spec.input) == (endpoint, {"image_url": "asset:ast_1", **input})
    assert find_model(endpoint).validate(spec.input) == spec.input


def test_a_step_of_our_own_is_no_call() -> None:
    """Nothing has to be waited for."""
    assert first_call(STEPS.validate_python(["watermark", "upscale"]), FOX) is None


@pytest.mark.parametrize(
    ("steps", "size", "usd"),
    [
        ([], (1024, 1024), "0"),
        (["watermark"], (1024, 1024), "0"),
        (["upscale"], (1024, 1024), "0.12"),
        (["upscale"], (512, 512), "0.03"),
        (["upscale", "remove_background", {"step": "upscale", "factor": 1.5}], (1024, 1024), "0.39555"),
        ([{"step": "upscale", "model": "fal-ai/esrgan", "factor": 4}, "upscale"], (512, 512), "0.4911"),
    ],
)
def test_a_chain_costs_what_its_steps_cost(steps: list[Any], size: tuple[int, int], usd: str) -> None:
    """Each by the size of the picture it makes."""
    assert estimate(STEPS.validate_python(steps), size) == Decimal(usd)


@pytest.mark.parametrize(
    ("steps", "size", "field"),
    [
        ([{"step": "upscale", "factor": 4}], (1536, 1536), "post.0.factor"),
        (["upscale", "upscale", "watermark", "upscale"], (1024, 1024), "post.3.factor"),
        ([{"step": "upscale", "factor": 1}], (7000, 7000), "post.0.factor"),
    ],
)
def test_a_picture_that_would_become_too_large_is_refused(steps: list[Any], size: tuple[int, int], field: str) -> None:
    """Before anything is paid: what comes back could not be stored."""
    with pytest.raises(BadInput, match="use a smaller factor") as caught:
        require_capacity(STEPS.validate_python(steps), size)
    assert caught.value.field == field
    assert caught.value.step == f"{int(field.split('.')[1]) + 1}-upscale"


def test_the_largest_picture_of_a_model_can_be_doubled() -> None:
    """2048 × 2048, and 1024 × 1024 four times as large."""
    require_capacity(STEPS.validate_python(["upscale"]), (2048, 2048))
    require_capacity(STEPS.validate_python([{"step": "upscale", "factor": 4}, "watermark"]), (1024, 1024))


@pytest.mark.parametrize(
    ("form", "step"),
    [
        ({"step": "upscale", "factor": 3}, {"step": "upscale", "factor": 3}),
        ({"step": "remove_background", "factor": 3}, "remove_background"),
        ({"step": "watermark"}, {"step": "watermark", "text": "AI generated"}),
        ({"step": "watermark", "logo": "ast_1", "opacity": 1}, {"step": "watermark", "logo": "ast_1", "opacity": 1}),
    ],
)
def test_the_form_in_prefect_asks_for_the_same_steps(form: dict[str, Any], step: object) -> None:
    """It fills in everything, whichever step was chosen; what belongs to another is unused."""
    filled = FormStep.model_validate(form).model_dump()
    assert [FormStep.model_validate(filled).chosen()] == STEPS.validate_python([step])


def test_what_the_form_does_not_refuse_its_step_does() -> None:
    """By field, and without repeating what was given."""
    with pytest.raises(BadInput) as caught:
        FormStep.model_validate({"step": "watermark", "text": "狐 secret"}).chosen()
    assert caught.value.field == "post.text"
    assert "secret" not in caught.value.message


def test_a_step_is_named_by_its_place() -> None:
    """The same step may come twice, and several pictures go through it."""
    upscale, cut_out = STEPS.validate_python(["upscale", "remove_background"])
    assert step_name(upscale, 1) == "1-upscale"
    assert step_name(cut_out, 2, 3) == "2-remove_background-of-3"


def test_a_step_may_be_any_model_that_makes_a_picture_of_one() -> None:
    """By its endpoint, alone or with an input of its own; the picture stands in the field that takes one."""
    given = {"step": "fal-ai/nano-banana/edit", "input": {"prompt": "at night"}}
    alone, edited = STEPS.validate_python(["fal-ai/birefnet/v2", given])
    assert alone.call(FOX) == ("fal-ai/birefnet/v2", {"image_url": FOX})
    assert edited.call(FOX) == ("fal-ai/nano-banana/edit", {"prompt": "at night", "image_urls": [FOX]})
    assert (step_name(alone, 1), step_name(edited, 2, 3)) == ("1-fal-ai-birefnet-v2", "2-fal-ai-nano-banana-edit-of-3")
    require_steps([alone, edited], (800, 600))
    assert STEPS.validate_python(STEPS.dump_python([edited], mode="json", exclude_defaults=True)) == [edited]
    assert estimate([edited], (800, 600)) > 0


@pytest.mark.parametrize(
    ("step", "field", "remedy"),
    [
        ("fal-ai/nothing-like-it", "post.0.step", "unknown model"),
        ("fal-ai/nano-banana", "post.0.step", "takes no picture"),
        ("fal-ai/kling-video/v2.5-turbo/pro/image-to-video", "post.0.step", "makes no pictures"),
        ({"step": "fal-ai/nano-banana/edit", "input": {"promt": "x"}}, "post.0.input.promt", "prompt"),
        ({"step": "fal-ai/nano-banana/edit"}, "post.0.input.prompt", "prompt"),
    ],
)
def test_a_model_that_cannot_be_a_step_is_refused_before_anything_is_paid(step: Any, field: str, remedy: str) -> None:
    with pytest.raises(BadInput, match=remedy) as caught:
        require_steps(STEPS.validate_python([step]), (800, 600))
    problems = [each.field for each in getattr(caught.value, "problems", ())]
    assert field in (caught.value.field, *problems)
