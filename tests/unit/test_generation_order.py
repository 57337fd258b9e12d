"""An order for any model, and a batch of any that makes pictures: what is checked before anything is on record."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from darkroom.batches import ManifestError
from darkroom.errors import BadInput
from darkroom.flows.orders.bounds import require_within
from darkroom.flows.orders.generation import Generation
from darkroom.flows.parts.batch_order import BatchOptions, BatchPlan, plan_batch
from darkroom.flows.parts.trained_style import Style
from darkroom.ledger import Lane

BANANA, QWEN, TRAINING = "fal-ai/nano-banana", "fal-ai/qwen-image", "fal-ai/flux-lora-fast-training"
STYLE = Style(trigger_word="mochi_cat", weights="asset:ast_7")


def order(model: str = BANANA, **fields: Any) -> Generation:
    return Generation(model=model, input=fields.pop("input", {"prompt": "a fox"}), **fields)


def test_an_order_is_one_paid_call_and_its_steps() -> None:
    """The estimate is for all of it."""
    asked = order(input={"prompt": "a fox", "num_images": 2}, post=["upscale", "watermark"])
    spec = asked.spec(None)
    assert (spec.endpoint, spec.lane) == (BANANA, Lane.INTERACTIVE)
    assert asked.estimate(spec) == 2 * (Decimal("0.039") + Decimal("0.12"))


def test_a_style_goes_with_a_model_that_takes_loras() -> None:
    """Its weights among the model's `loras`, its trigger word in the prompt."""
    spec = order(QWEN, lora="mochi_cat").spec(STYLE)
    assert spec.input == {"prompt": "mochi_cat, a fox", "loras": [{"path": "asset:ast_7", "scale": 1.0}]}
    with pytest.raises(BadInput, match="takes no LoRA") as caught:
        order(BANANA, lora="mochi_cat").spec(STYLE)
    assert caught.value.field == "lora"


def test_a_training_waits_in_its_own_lane_and_is_not_paid_twice_by_itself() -> None:
    """Hours of somebody's slot are no picture; where nobody knows whether it was paid, a person decides."""
    training = order(TRAINING, input={"images_data_url": "asset:ast_7"})
    assert training.spec(None).lane is Lane.TRAINING
    assert not training.retry.resubmit_expired
    assert order().retry.resubmit_expired


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"input": {"promt": "x"}}, "input.promt"),
        ({"model": TRAINING, "input": {"images_data_url": "x.zip"}}, "input.images_data_url"),
        ({"model": "fal-ai/nothing"}, "model"),
        ({"model": "fal-ai/trellis", "input": {"image_url": "asset:ast_7"}, "post": ["watermark"]}, "model"),
    ],
)
def test_what_is_wrong_is_named_as_it_was_ordered(fields: dict[str, Any], field: str) -> None:
    """Inside the input, or the order's own; steps for pictures go with models that make some."""
    with pytest.raises(BadInput) as caught:
        order(**{"model": BANANA, **fields}).check()
    assert caught.value.field == field


def plan(manifest: str) -> BatchPlan:
    return plan_batch(manifest, BatchOptions(), style=lambda name: STYLE)


def test_an_order_that_no_amount_on_record_can_name_is_refused() -> None:
    """Whatever it may cost: each of its calls can be kept, and their sum cannot."""
    require_within(Decimal("999999.99"), None)
    with pytest.raises(BadInput, match="Order less"):
        require_within(Decimal(1_000_000), None)


def test_a_batch_takes_any_model_that_makes_pictures() -> None:
    """A column is read as the model's schema wants it."""
    planned = plan(f"id,prompt,model,aspect_ratio,num_images\na,a fox,{BANANA},3:2,2\nb,an owl,{QWEN},,1\n")
    assert [child.first.input for child in planned.drafts] == [
        {"prompt": "a fox", "aspect_ratio": "3:2", "num_images": 2},
        {"prompt": "an owl"},
    ]


def test_a_batch_says_by_row_and_column_what_a_model_does_not_take() -> None:
    """Nothing is started."""
    with pytest.raises(ManifestError) as caught:
        plan(f"id,prompt,model,aspect_ratio\na,a fox,{BANANA},3:9\nb,an owl,fal-ai/nothing,\n")
    assert [(each.row, each.column) for each in caught.value.problems] == [(1, "aspect_ratio"), (2, "model")]


def test_a_batch_has_a_bound_of_its_own() -> None:
    """Beyond it it is refused with what it may cost."""
    with pytest.raises(BadInput, match=r"\$0\.078") as caught:
        plan_batch(
            [{"prompt": "a fox", "model": BANANA, "num_images": 2}],
            BatchOptions(max_usd=Decimal("0.05")),
            style=lambda name: STYLE,
        )
    assert caught.value.field == "max_usd"
