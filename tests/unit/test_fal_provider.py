"""fal behind the seam of all providers: which files go to its CDN, for how long, and how they are known there again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from blocks.fal import Fal
from blocks.fal.provider import FalProvider
from blocks.fal.uploads import as_recorded
from blocks.media import Media

ASSET = "asset:ast_019aa1f0d8b4"
ADDRESS = "https://v3b.fal.media/files/b/0a1b2c3d/"


class Cdn(Fal):
    """Keeps what it was given, and for how long."""

    def __init__(self) -> None:
        self.given: dict[str, timedelta] = {}

    def upload(self, content: bytes, *, content_type: str, file_name: str, lifetime: timedelta) -> str:
        assert (content, content_type) == (b"a picture", "image/png")
        self.given[file_name] = lifetime
        return ADDRESS + file_name


class Shelf:
    """Every file is a picture."""

    def read(self, reference: str) -> Media:
        assert reference.startswith("asset:ast_")
        return Media(content=b"a picture", content_type="image/png", extension="png", sha256="")


@pytest.fixture
def cdn() -> Cdn:
    return Cdn()


@pytest.mark.parametrize(
    ("input", "hours"),
    [
        ({"image_url": ASSET, "upscale_factor": 2}, 24),
        ({"prompt": "a fox", "loras": [{"path": ASSET, "scale": 0.8}]}, 24),
        ({"images_data_url": ASSET, "trigger_word": "MOCHI"}, 5),
    ],
)
def test_a_file_goes_to_fal_with_an_end(cdn: Cdn, input: dict[str, Any], hours: int) -> None:
    """Wherever the input names it; what is sent has its address there, and nothing else is changed."""
    sent = FalProvider(cdn).prepare(input, files=Shelf())
    assert cdn.given == {"ast_019aa1f0d8b4.png": timedelta(hours=hours)}
    assert sent == _replaced(input, ASSET, ADDRESS + "ast_019aa1f0d8b4.png")


@pytest.mark.parametrize(
    "input",
    [
        {"prompt": ASSET},
        {"prompt": "a fox", "loras": []},
        {"image_url": "https://v3.fal.media/files/b/x/fox.png"},
        {"image_url": None, "seed": 7},
    ],
)
def test_nothing_else_is_taken_for_a_file(cdn: Cdn, input: dict[str, Any]) -> None:
    """A prompt may say anything, and what fal has already is not brought again."""
    assert FalProvider(cdn).prepare(input, files=Shelf()) == input
    assert cdn.given == {}


def test_a_file_is_known_again_in_fals_list_of_requests(cdn: Cdn) -> None:
    """So that a submit whose answer was lost can be found there by its input."""
    input = {"image_url": ASSET, "loras": [{"path": "asset:ast_77", "scale": 1}], "seed": 7}
    assert as_recorded(FalProvider(cdn).prepare(input, files=Shelf())) == input


@pytest.mark.parametrize(
    ("listed", "recorded"),
    [
        ("https://v3.fal.media/files/lion/x7Yw_ast_019aa1f0d8b4.png", ASSET),
        ("https://v3.fal.media/files/lion/x7Yw_fox.png", "https://v3.fal.media/files/lion/x7Yw_fox.png"),
        ("https://example.com/ast_019aa1f0d8b4.png", "https://example.com/ast_019aa1f0d8b4.png"),
        ("see https://v3.fal.media/ast_1.png", "see https://v3.fal.media/ast_1.png"),
    ],
)
def test_only_our_own_files_are_known_again(listed: str, recorded: str) -> None:
    """By the name they were given, at fal's file hosts."""
    assert as_recorded({"image_url": listed}) == {"image_url": recorded}


def _replaced(value: Any, one: str, other: str) -> Any:
    if isinstance(value, dict):
        return {name: _replaced(each, one, other) for name, each in value.items()}
    if isinstance(value, list):
        return [_replaced(each, one, other) for each in value]
    return other if value == one else value
