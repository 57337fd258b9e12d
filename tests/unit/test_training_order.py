"""What a training is ordered with: what is refused before anybody looks at a picture, and what the calls will be."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from darkroom.errors import BadInput
from darkroom.flows.train_lora import PAINTER, TRAINER, Training
from darkroom.providers.models import find_model

FOUR = ["ast_1", "ast_2", "https://example.com/3.jpg", "http://example.com/4.jpg"]


def order(**changes: Any) -> Training:
    return Training.model_validate({"trigger_word": "mochi_cat", "images": FOUR} | changes)


@pytest.mark.parametrize("word", ["ab", "mochi_cat", "Mochi-2", "9lives", "a" * 40])
def test_a_trigger_word_is_one_word(word: str) -> None:
    """That stands in prompts and captions as it is."""
    order(trigger_word=word).check()


@pytest.mark.parametrize("word", ["", "a", "a" * 41, "two words", "mochi,", "_cat", "größe", "a\n", "-x", "[trigger]"])
def test_other_trigger_words_are_refused(word: str) -> None:
    """Nobody knows what a trainer, or a prompt, makes of them."""
    with pytest.raises(ValidationError):
        order(trigger_word=word)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"trigger_word": "lora_1"}, "trigger_word"),
        ({"images": []}, "images"),
        ({"archive": "ast_9"}, "images"),
        ({"images": FOUR[:3]}, "images"),
        ({"images": [*FOUR, "ftp://example.com/5.jpg"]}, "images.4"),
        ({"images": ["/etc/passwd", *FOUR]}, "images.0"),
        ({"images": [], "archive": "pictures.zip"}, "archive"),
        ({"captions": {"0": "a fox", "4": "an owl"}}, "captions.4"),
        ({"captions": {"fox.jpg": "a fox"}}, "captions.fox.jpg"),
    ],
)
def test_what_can_be_known_without_the_pictures_is_told_at_once(changes: dict[str, Any], field: str) -> None:
    """With the field that is wrong."""
    with pytest.raises(BadInput) as caught:
        order(**changes).check()
    assert caught.value.field == field


@pytest.mark.parametrize(
    "changes", [{"images": ["ast_1"] * 51}, {"steps": 99}, {"steps": 4001}, {"test_prompts": ["a"] * 5}, {"rank": 8}]
)
def test_bounds_are_kept(changes: dict[str, Any]) -> None:
    """And nothing is passed over."""
    with pytest.raises(ValidationError):
        order(**changes)


def test_the_calls_are_what_the_models_accept() -> None:
    """The training, and four pictures with fixed seeds, so that versions can be compared."""
    asked = order(steps=1500, style=True)
    trainer, painter = find_model(TRAINER), find_model(PAINTER)
    trained = trainer.validate(asked.training("asset:ast_9"))
    assert trained == {
        "images_data_url": "asset:ast_9",
        "trigger_word": "mochi_cat",
        "steps": 1500,
        "is_style": True,
    }
    painted = [painter.validate(each) for each in asked.pictures("asset:ast_8")]
    assert [each["seed"] for each in painted] == [1, 2, 3, 4]
    assert all(each["loras"][0]["path"] == "asset:ast_8" for each in painted)


@pytest.mark.parametrize("style", [True, False])
def test_every_test_picture_is_asked_for_with_the_trigger_word(style: bool) -> None:
    """Ours have it, and those of the user get it where they lack it."""
    assert all("mochi_cat" in prompt for prompt in order(style=style).prompts())
    given = ["a fox", "mochi_cat on a bicycle"]
    assert order(style=style, test_prompts=given).prompts() == ["mochi_cat, a fox", "mochi_cat on a bicycle"]


@pytest.mark.parametrize(("prompts", "usd"), [([], "2.14"), (["a fox"], "2.035"), (["a"] * 4, "2.14")])
def test_the_price_is_known_before(prompts: list[str], usd: str) -> None:
    """The training's, and a picture of one megapixel for each test prompt."""
    assert order(test_prompts=prompts).estimate() == Decimal(usd)
