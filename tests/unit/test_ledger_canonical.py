"""JSON as the ledger writes it: equal inputs have equal hashes, and whatever arrives can be stored."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from itertools import combinations
from typing import Any

import pytest

from darkroom.ledger.canonical_json import content_hash, dumps

FOX = {"prompt": "a fox", "image_size": {"width": 64, "height": 32}}

SAME = {
    "order of keys": {"image_size": {"height": 32, "width": 64}, "prompt": "a fox"},
    "a copy": json.loads(json.dumps(FOX)),
}
OTHER: dict[str, Any] = {
    "another value": FOX | {"prompt": "a box"},
    "one more key": FOX | {"seed": None},
    "one key fewer": {"prompt": "a fox"},
    "text for a number": FOX | {"image_size": {"width": "64", "height": 32}},
    "space around it": FOX | {"prompt": "a fox "},
    "true for one": FOX | {"image_size": {"width": 64, "height": True}},
}


@pytest.mark.parametrize("same", SAME.values(), ids=SAME.keys())
def test_equal_inputs_have_equal_hashes(same: dict[str, Any]) -> None:
    """However they were written."""
    assert content_hash("fal-ai/flux/dev", same) == content_hash("fal-ai/flux/dev", FOX)


def test_different_inputs_have_different_hashes() -> None:
    """Each of them from each."""
    hashes = [content_hash("fal-ai/flux/dev", each) for each in (FOX, *OTHER.values())]
    hashes += [content_hash("fal-ai/flux/schnell", FOX), content_hash(FOX, "fal-ai/flux/dev"), content_hash(FOX)]
    assert all(a != b for a, b in combinations(hashes, 2))


def test_parts_do_not_run_into_each_other() -> None:
    """The border between two parts is part of what is hashed."""
    assert content_hash("ab", "c") != content_hash("a", "bc")


def test_amounts_and_times_are_written_exactly() -> None:
    """As text: a float would lose the amount's last digit, a number the time's zone."""
    document = {"usd": Decimal("0.0250"), "at": datetime(2026, 1, 2, 3, 4, tzinfo=UTC)}
    assert dumps(document) == '{"at":"2026-01-02T03:04:00+00:00","usd":"0.0250"}'


def test_anything_else_is_refused() -> None:
    """Guessing how to write an object would make its hash a matter of luck."""
    with pytest.raises(TypeError, match="set does not belong"):
        dumps({"tags": {1, 2}})


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("a\0b", "a\ufffdb"),
        ("half \ud83d pair", "half \ufffd pair"),
        ("other \udd8a half", "other \ufffd half"),
        ("whole \U0001f98a fox", "whole \U0001f98a fox"),
        ("fox \U0001f98a and \0", "fox \U0001f98a and \ufffd"),
        (r"written \u0000 out", r"written \u0000 out"),
        (float("nan"), None),
        (float("-inf"), None),
        ((1, "\0"), [1, "\ufffd"]),
    ],
)
def test_what_postgres_refuses_is_replaced(value: object, stored: object) -> None:
    """An answer that is paid for is kept, even with something in it that jsonb does not take."""
    assert json.loads(dumps({"deep": [{"er": value}]})) == {"deep": [{"er": stored}]}


def test_what_postgres_refuses_in_a_key_is_replaced_too() -> None:
    """Keys come from outside as well."""
    assert json.loads(dumps({"a\0": 1})) == {"a\ufffd": 1}
