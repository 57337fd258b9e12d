"""What of an order is shown: everything but what opens something."""

from __future__ import annotations

from typing import Any

import pytest

from darkroom.deployments.gateway.schemas.orders import LONGEST_TEXT, MOST_ITEMS, shown_order
from darkroom.shown_addresses import HIDDEN, is_secret

SIGNED = "https://b.s3.amazonaws.com/a.jpg?X-Amz-Date=20300101&X-Amz-Signature=abc&X-Amz-Credential=AKIA"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"prompt": "a fox", "seed": 7, "post": ["upscale"]}, None),
        ({"prompt": "https://example.com/look?page=2&q=fox"}, None),
        ({"arguments": {"max_tokens": 5, "keywords": "k"}}, None),
        (
            {"urls": [SIGNED]},
            {"urls": ["https://b.s3.amazonaws.com/a.jpg?X-Amz-Date=20300101&X-Amz-Signature=…&X-Amz-Credential=…"]},
        ),
        ({"image": "https://ann:hunter2@example.com/a.jpg"}, {"image": "https://…@example.com/a.jpg"}),
        ({"prompt": "as in https://x.y/?token=abc please"}, {"prompt": "as in https://x.y/?token=… please"}),
        ({"api_key": "abc", "extra": {"webhookSecret": "x"}}, {"api_key": "…", "extra": {"webhookSecret": "…"}}),
        ({"page": "https://x.y/back#access_token=abc&state=7"}, {"page": "https://x.y/back#access_token=…&state=7"}),
        ({"page": "https://x.y/#/files?id=7&token=abc"}, {"page": "https://x.y/#/files?id=7&token=…"}),
        ({"page": "https://x.y/?page=2#chapter=3"}, None),
        (
            {"image": "https://x.y/?id=7;sig=abc&access%5Ftoken=abc"},
            {"image": "https://x.y/?id=7;sig=…&access%5Ftoken=…"},
        ),
        ({"image": "http://[broken"}, {"image": "…"}),
    ],
)
def test_an_order_is_shown_without_what_opens_something(given: dict[str, Any], shown: dict[str, Any] | None) -> None:
    """Signed addresses and passwords are hidden wherever they stand; the rest is as it was ordered."""
    assert shown_order(given, whole=True) == (given if shown is None else shown)


def test_in_lists_long_texts_and_lists_are_cut() -> None:
    """A page of two hundred batches does not carry their manifests."""
    given = {"manifest": "x" * 5000, "urls": ["https://example.com"] * 500}
    cut = shown_order(given, whole=False)
    assert cut["manifest"] == "x" * LONGEST_TEXT + HIDDEN
    assert cut["urls"] == ["https://example.com"] * MOST_ITEMS + [HIDDEN]
    assert shown_order(given, whole=True) == given


@pytest.mark.parametrize("before", [0, 200, LONGEST_TEXT - 20, LONGEST_TEXT - 10])
def test_what_is_cut_shows_no_part_of_a_secret(before: int) -> None:
    """Wherever the cut falls: a password is known by what comes after it."""
    prompt = "x" * before + " https://ann:hunter2hunter2hunter2@example.com/?token=" + "abc" * 200
    cut = shown_order({"prompt": prompt}, whole=False)["prompt"]
    assert "hunter" not in cut and "abc" not in cut
    assert len(cut) <= LONGEST_TEXT + len(HIDDEN)


@pytest.mark.parametrize("name", ["max_tokens", "keywords", "monkey", "design", "tokenizer", "sigma"])
def test_a_name_that_only_begins_like_a_secret_is_none(name: str) -> None:
    """Else models' own arguments would be hidden."""
    assert not is_secret(name)
