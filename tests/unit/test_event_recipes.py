"""What the flows that events start decide by themselves, and that what an event brings is what its flow takes."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

import pytest

from darkroom import Invoked
from darkroom.errors import BadInput, DarkroomError, Permanent
from darkroom.events import Trigger, read_triggers
from darkroom.events.types import find_type
from darkroom.flows.onboard_user import Onboarding
from darkroom.flows.process_order import Order
from darkroom.flows.process_upload import MODELS, Upload, joined, nothing_done
from darkroom.flows.sync_profile import Profile

MUGS = {"sku": "mug", "quantity": 2, "price_cents": 900}
PINS = {"sku": "pin", "quantity": 1, "price_cents": 190}
PLACED = {"order": "o-1", "items": [MUGS, PINS], "total_cents": 1990, "payment_method": "pm_ann"}
SENT: dict[str, tuple[dict[str, Any], type[Any]]] = {
    "user.signed_up": ({"account": "u-1", "email": "ann@example.com"}, Onboarding),
    "order.placed": (PLACED, Order),
    "profile.changed": ({"account": "u-1", "name": "Ann", "picture_url": "https://example.com/a.png"}, Profile),
    "upload.received": ({"upload": "u-1", "items": [{"image": "https://example.com/a.png"}]}, Upload),
}
FLOWS = {"onboard-user/on-demand", "process-order/on-demand", "process-upload/on-demand", "sync-profile/debounced"}


def order(**changed: Any) -> Order:
    return Order.model_validate(PLACED | changed)


def upload(*items: dict[str, Any], **changed: Any) -> Upload:
    return Upload.model_validate({"upload": "u-1", "items": list(items)} | changed)


def started(event: str, data: dict[str, Any]) -> list[Any]:
    """What the project's triggers make of it, for the flows of this file."""
    version, model = find_type(event)
    whole = {"name": event, "v": version, "user": "usr_1", "data": model.model_validate(data).model_dump(mode="json")}
    found = [each.start(whole) for each in read_triggers() if each.event == event]
    return [start for start in found if start.deployment in FLOWS]


def test_an_order_that_adds_up_is_sound() -> None:
    """Articles times their prices is the total."""
    assert order().require_sound() == {"items": 2, "total_cents": 1990}


@pytest.mark.parametrize(
    ("changed", "field"), [({"total_cents": 1980}, "total_cents"), ({"items": [MUGS, MUGS]}, "items")]
)
def test_an_order_that_does_not_add_up_names_the_field(changed: dict[str, Any], field: str) -> None:
    """Before anything is charged."""
    with pytest.raises(BadInput) as refused:
        order(**changed).require_sound()
    assert refused.value.field == field


def test_an_order_is_one_charge_in_whichever_job() -> None:
    """The key is of the order, the money and the way it is paid; another of these is another charge."""
    key = order().charge(user_id="ann").key
    assert order(email="ann@example.com").charge(user_id="ann").key == key
    others = [
        order().charge(user_id="bob"),
        order(order="o-2").charge(user_id="ann"),
        order(payment_method="pm_other").charge(user_id="ann"),
        order(currency="EUR").charge(user_id="ann"),
    ]
    assert len({key, *(other.key for other in others)}) == 5


@pytest.mark.parametrize("number", ["4242424242424242", "4242 4242 4242 4242"])
def test_a_cards_number_is_no_payment_method(number: str) -> None:
    """It would stand in parameters and rows."""
    with pytest.raises(BadInput) as refused:
        Order.read(PLACED | {"payment_method": number})
    assert refused.value.field == "payment_method"
    assert number not in refused.value.message


def test_items_have_in_common_what_they_do_not_bring() -> None:
    """An item's own fields come before the common ones."""
    first, second = upload(
        {"image": "https://example.com/a.png"},
        {"image": "ast_0", "post": [{"step": "watermark", "text": "draft"}]},
    ).of_items()
    assert isinstance(first, dict)
    assert first["post"][0]["step"] == "remove_background"
    assert isinstance(second, dict)
    assert second["post"][0]["step"] == "watermark"


def test_an_item_that_is_none_is_told_by_field_and_starts_nothing() -> None:
    """The others go ahead."""
    wrong, right = upload({"image": "secret"}, {"image": "ast_0"}).of_items()
    assert isinstance(wrong, BadInput)
    assert wrong.field == "image"
    assert "secret" not in wrong.message
    assert isinstance(right, dict)


def test_items_may_be_orders_for_pictures() -> None:
    """With the fields of that deployment."""
    (parameters,) = upload({"prompt": "a fox"}, each="generate-image", in_common={"seed": 7}).of_items()
    assert parameters == {"prompt": "a fox", "seed": 7}


def test_the_join_has_each_item_by_its_place() -> None:
    """Among those that are done, or those that failed."""
    order = upload({"image": "ast_0"}, {"image": "ast_1"}, {"image": "x"})
    came: list[Invoked | DarkroomError] = [
        Permanent("edit-image job_1 failed: too large", code="child_failed"),
        Invoked(job_id="job_2", result=None, assets=()),
        BadInput("image: no picture", field="image"),
    ]
    result = joined(order, came)
    assert (result["completed"], result["failed"]) == (1, 2)
    assert [item["n"] for item in result["items"]] == [2]
    assert [(each["n"], each["code"]) for each in result["failures"]] == [(1, "child_failed"), (3, "bad_input")]
    assert "1 × child_failed" in nothing_done(came).message


@pytest.mark.parametrize("event", SENT)
def test_what_an_event_brings_is_what_its_flow_takes(event: str) -> None:
    """The parameters that its trigger makes are an order of that flow: else its job would fail at its first line."""
    data, model = SENT[event]
    (start,) = started(event, data)
    assert start.reason is None
    model.read(start.parameters)


def test_an_order_that_is_charged_elsewhere_starts_nothing() -> None:
    """And the event says so."""
    (start,) = started("order.placed", {"order": "o-1", "total_cents": 1900})
    assert "condition does not hold" in start.reason


@pytest.mark.parametrize("trigger", read_triggers(), ids=lambda each: f"{each.event} → {each.deployment}")
def test_a_trigger_gives_no_parameter_that_its_flow_does_not_have(trigger: Trigger) -> None:
    """A run with a parameter too many ends before its job is called."""
    name = trigger.deployment.partition("/")[0].replace("-", "_")
    flow = getattr(import_module(f"darkroom.flows.{name}"), name)
    _, data = find_type(trigger.event, trigger.v)
    given = set(trigger.parameters if trigger.parameters is not None else data.model_fields)
    assert given <= set(inspect.signature(flow.fn).parameters)


def test_every_deployment_an_item_may_go_to_reads_orders() -> None:
    """Its model is the one its job function reads."""
    assert set(MODELS) == {"edit-image", "generate-image"}
