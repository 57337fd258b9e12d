"""fal behind the seam of all providers: which files go to its CDN, for how long, and how they are known there again."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest

from darkroom.clock import utc_now
from darkroom.ledger import Request
from darkroom.media.formats import Media
from darkroom.providers.base import Progress
from darkroom.providers.fal import Fal, ProviderStatus
from darkroom.providers.fal.provider import FalProvider
from darkroom.providers.fal.uploads import as_recorded

ASSET = "asset:ast_019aa1f0d8b4"
ADDRESS = "https://v3b.fal.media/files/b/0a1b2c3d/"


USUAL: Sequence[tuple[str | int, ...]] = (("image_url",), ("loras", 0, "path"), ("images_data_url",))


class Cdn(Fal):
    """Keeps what it was given, and for how long."""

    def __init__(self) -> None:
        self.given: dict[str, timedelta] = {}
        self.uploads = 0

    def upload(self, content: bytes, *, content_type: str, file_name: str, lifetime: timedelta) -> str:
        self.uploads += 1
        assert (content, content_type) == (b"a picture", "image/png")
        self.given[file_name] = lifetime
        return ADDRESS + file_name


class Shelf:
    """Every file is a picture."""

    def __init__(self, places: Sequence[tuple[str | int, ...]] = USUAL) -> None:
        self.places = places
        self.copies: dict[str, tuple[str, datetime]] = {}

    def read(self, reference: str) -> Media:
        assert reference.startswith("asset:ast_")
        return Media(content=b"a picture", content_type="image/png", extension="png", sha256="")

    def copy_at(self, account_id: str, reference: str, *, until: datetime) -> str | None:
        url, expires_at = self.copies.get(reference, ("", until - timedelta(seconds=1)))
        return url if expires_at >= until else None

    def keep_copy(self, account_id: str, reference: str, *, url: str, expires_at: datetime) -> None:
        assert account_id == "fal"
        self.copies[reference] = (url, expires_at)


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
    input = {"image_url": ASSET, "loras": [{"path": "asset:ast_77-0", "scale": 1}], "seed": 7}
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


@pytest.mark.parametrize(("lasts", "brought"), [(timedelta(hours=2), False), (timedelta(minutes=30), True)])
def test_weights_that_fal_has_are_not_brought_again_while_they_last(cdn: Cdn, lasts: timedelta, brought: bool) -> None:
    """They are large, and many pictures are made with the same. A copy that could end under a picture is no good."""
    shelf, there = Shelf(), ADDRESS + "there.safetensors"
    shelf.keep_copy("fal", ASSET, url=there, expires_at=utc_now() + lasts)
    sent = FalProvider(cdn).prepare({"loras": [{"path": ASSET}]}, files=shelf)
    (address,) = [lora["path"] for lora in sent["loras"]]
    assert (address != there, bool(cdn.given)) == (brought, brought)
    assert shelf.copies[ASSET][0] == address


def test_weights_are_brought_once_for_pictures_that_are_sent_at_once(cdn: Cdn) -> None:
    """A burst of pictures with one LoRA."""
    provider, shelf = FalProvider(cdn), Shelf()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: provider.prepare({"loras": [{"path": ASSET}]}, files=shelf), range(24)))
    assert cdn.uploads == 1


@pytest.mark.parametrize(
    ("status", "progress"),
    [
        (ProviderStatus(state="IN_QUEUE", queue_position=3), Progress(percent=0, text="waits at fal, 3 before it")),
        (ProviderStatus(state="IN_PROGRESS"), None),
        (ProviderStatus(state="IN_PROGRESS", logs=({"level": "INFO"}, {"message": "Starting"})), None),
        (
            ProviderStatus(
                state="IN_PROGRESS",
                logs=({"message": "Training:  10%|█ | 100/1000 [01:00<09:00]"}, {"message": "Saved a checkpoint"}),
            ),
            Progress(percent=10, text="step 100 of 1,000, about 9 min left"),
        ),
        (ProviderStatus(state="NOT_FOUND"), None),
    ],
)
def test_how_far_a_training_has_come_is_read_from_its_log(status: ProviderStatus, progress: Progress | None) -> None:
    """Before it writes one, its place in the queue is all there is to tell."""

    class Queue(Fal):
        def __init__(self) -> None: ...

        def status(self, endpoint: str, request_id: str) -> ProviderStatus:
            return status

    row = Request(endpoint="fal-ai/flux-lora-fast-training", request_id="r-1")
    assert FalProvider(Queue()).progress(row) == progress


def _replaced(value: Any, one: str, other: str) -> Any:
    if isinstance(value, dict):
        return {name: _replaced(each, one, other) for name, each in value.items()}
    if isinstance(value, list):
        return [_replaced(each, one, other) for each in value]
    return other if value == one else value


def test_a_models_schema_says_where_its_files_are(cdn: Cdn) -> None:
    """Whatever the field is called, in lists and objects too; a text that reads like a file stays one."""
    asked = {"prompt": ASSET, "frames": [{"still": ASSET}, {"still": "https://v3.fal.media/x.png"}], "seed": 1}
    shelf = Shelf(places=[("frames", 0, "still"), ("frames", 1, "still")])
    sent = FalProvider(cdn).prepare(asked, files=shelf)
    assert sent["frames"][0]["still"].startswith(ADDRESS)
    assert sent == {**asked, "frames": [sent["frames"][0], asked["frames"][1]]}
