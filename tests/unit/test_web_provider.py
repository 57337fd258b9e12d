"""The open web as a provider: what a call comes to, told as an outcome whatever happens."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from web_shop import Answer, Shop, content, open_shop, picture, status

from darkroom.errors import BadInput
from darkroom.ledger import Outcome, Request, Transition
from darkroom.media.formats import verify
from darkroom.providers.web import Reach, Web
from darkroom.providers.web.model import MODELS, notes_of
from darkroom.providers.web.provider import WebProvider

(MODEL,) = MODELS


@pytest.fixture
def shop() -> Iterator[Shop]:
    with open_shop() as opened:
        yield opened


def fetched(shop: Shop, answer: Answer, **options: Any) -> Outcome:
    provider = WebProvider(Web(Reach.parse(f"127.0.0.1:{shop.port}")))
    input = MODEL.validate({"url": shop.lay_out("/mug", answer), **options})
    row = Request.model_construct(ref="req_1", step="image-0001", input=input)
    return provider.submit(row, input, webhook_url=None)


def test_a_picture_comes_within_its_answer_smaller_and_whole(shop: Shop) -> None:
    """As a data URL, which the engine stores; it costs nothing."""
    outcome = fetched(shop, content(picture("PNG", size=(640, 320))), max_width=64)
    assert (outcome.transition, outcome.cost_usd) == (Transition.SUCCEED, Decimal(0))
    assert outcome.output is not None
    (file,) = MODEL.files(outcome.output)
    head, _, body = file.url.partition(",")
    assert head == "data:image/png;base64"
    media = verify(base64.b64decode(body))
    assert (media.width, media.height) == (file.width, file.height) == (64, 32)


def test_a_picture_of_another_kind_comes_as_one_that_every_program_reads_and_is_told(shop: Shop) -> None:
    """Made smaller like any; what was done to it is in the answer."""
    outcome = fetched(shop, content(picture("TIFF", size=(640, 320))), max_width=64)
    assert outcome.output is not None
    (file,) = MODEL.files(outcome.output)
    assert (file.content_type, file.width) == ("image/png", 64)
    assert notes_of(outcome.output) == ["was TIFF", "is kept as PNG"]


@pytest.mark.parametrize(
    ("answer", "code", "retryable"),
    [(status(404), "not_found", False), (status(500), "host_failed", True), (content(b"<html>"), "wrong_type", False)],
)
def test_what_goes_wrong_is_how_the_call_ended(shop: Shop, answer: Answer, code: str, retryable: bool) -> None:
    """Nothing is raised: that would be a refusal of the whole web's."""
    outcome = fetched(shop, answer)
    assert outcome.transition is Transition.FAIL
    assert outcome.error is not None
    told = {name: outcome.error[name] for name in ("code", "retryable", "step", "ref")}
    assert told == {"code": code, "retryable": retryable, "step": "image-0001", "ref": "req_1"}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({}, "url"),
        ({"url": ""}, "url"),
        ({"url": "https://shop.example/" + "a" * 2048}, "url"),
        ({"url": "https://shop.example/", "max_width": 0}, "max_width"),
        ({"url": "https://shop.example/", "quality": 101}, "quality"),
        ({"url": "https://shop.example/", "method": "POST"}, "method"),
    ],
)
def test_an_input_that_is_none_names_its_field(wrong: dict[str, Any], field: str) -> None:
    """And never quotes the address, which may carry a signature."""
    with pytest.raises(BadInput) as caught:
        MODEL.validate(wrong)
    assert caught.value.field == field
    assert "shop.example" not in caught.value.message
