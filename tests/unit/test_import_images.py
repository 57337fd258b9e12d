"""What an import makes of its order, and of what came: pure."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from darkroom.errors import DarkroomError, Permanent, Refused, Retry
from darkroom.flows.import_images import calls_of, nothing_imported, place, summary
from darkroom.flows.orders.imports import Import
from darkroom.ledger import Asset

MUG = "https://shop.example/mug.jpg"
CUP = "https://shop.example/cup.jpg"


def asset(id: str) -> Asset:
    return Asset.model_construct(id=id)


def test_each_address_is_a_call_of_its_own_and_one_given_twice_is_one() -> None:
    """By its place in the order, so that a replay finds it again; what a browser keeps to itself makes no other."""
    order = Import(urls=[MUG, f" {CUP} ", f"{MUG}#detail", MUG], max_width=640)
    assert order.steps() == ["image-0001", "image-0002", "image-0001", "image-0001"]
    assert [(call.step, call.arguments["url"]) for call in calls_of(order)] == [
        ("image-0001", MUG),
        ("image-0002", CUP),
    ]
    assert all(call.arguments["max_width"] == 640 for call in calls_of(order))


def test_the_result_has_every_address_in_its_place() -> None:
    """`imported` counts pictures, so one given twice counts once."""
    order = Import(urls=[MUG, CUP, MUG])
    came: dict[str, Asset | DarkroomError] = {
        "image-0001": asset("ast_1"),
        "image-0002": Refused("there is no such file", code="not_found"),
    }
    assert summary(order.given(came), came) == {
        "imported": 1,
        "images": [{"n": 1, "url": MUG, "asset_id": "ast_1"}, {"n": 3, "url": MUG, "asset_id": "ast_1"}],
        "refused": [{"n": 2, "url": CUP, "code": "not_found", "reason": "there is no such file"}],
    }


@pytest.mark.parametrize(
    ("url", "listed"),
    [
        ("https://ann:hunter2@shop.example/mug.jpg", "https://…@shop.example/mug.jpg"),
        (f"{MUG}?X-Amz-Signature=hunter2&v=2", f"{MUG}?X-Amz-Signature=…&v=2"),
        (f"{MUG}#access_token=hunter2", f"{MUG}#access_token=…"),
    ],
)
@pytest.mark.parametrize("outcome", [asset("ast_1"), Refused("no", code="bad_url")])
def test_no_secret_of_an_address_is_listed(url: str, listed: str, outcome: Asset | DarkroomError) -> None:
    """Neither in the result, as in the order that is shown beside it, nor in the artifact."""
    order, came = Import(urls=[url]), {"image-0001": outcome}
    found = summary(order.given(came), came)
    assert [each["url"] for each in found["images"] + found["refused"]] == [listed]
    assert place(url) == "`shop.example/mug.jpg`"


def test_what_was_noticed_of_a_picture_is_told_with_it() -> None:
    """Of none there is nothing to tell."""
    order = Import(urls=[MUG, CUP])
    came: dict[str, Asset | DarkroomError] = {"image-0001": asset("ast_1"), "image-0002": asset("ast_2")}
    images = summary(order.given(came), came, {2: ["was HEIC"]})["images"]
    assert [image.get("notes") for image in images] == [None, ["was HEIC"]]


@pytest.mark.parametrize(
    ("errors", "kind", "why"),
    [
        ([Refused("no", code="not_found")], Permanent, "1 × not_found"),
        ([Refused("no", code="not_found"), Retry("out", code="host_failed")], Retry, "1 × not_found, 1 × host_failed"),
        ([Refused("no", code="bad_url")] * 3, Permanent, "3 × bad_url"),
    ],
)
def test_where_nothing_came_the_failure_says_why_and_whether_a_replay_is_worth_it(
    errors: list[DarkroomError], kind: type[DarkroomError], why: str
) -> None:
    """It is where one of them may yet come."""
    error = nothing_imported({f"image-{n}": each for n, each in enumerate(errors)})
    assert (type(error), error.code) == (kind, "nothing_imported")
    assert why in error.message


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Import(urls=[]),
        lambda: Import(urls=[MUG] * 501),
        lambda: Import(urls=["  "]),
        lambda: Import(urls=[f"{MUG}?{'a' * 2048}"]),
        lambda: Import(urls=[f"{MUG}?{'a' * 900}"] * 500),
        lambda: Import(urls=[MUG], max_width=15),
        lambda: Import(urls=[MUG], quality=0),
        lambda: Import(urls=[MUG], product="a" * 201),
    ],
)
def test_an_order_has_its_bounds(wrong: Callable[[], Import]) -> None:
    """Also on all its addresses together: Prefect takes no parameters of more than 512 KiB."""
    with pytest.raises(ValidationError):
        wrong()
