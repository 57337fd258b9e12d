"""How deep JSON nests, told from its bytes."""

from __future__ import annotations

import json

import pytest

from darkroom.nesting import MOST_LEVELS, nests_too_deep


def deep(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


FINE = {
    "as deep as it may be": deep(MOST_LEVELS),
    "objects in lists, as deep as they may be": b'[{"a":' * (MOST_LEVELS // 2) + b"1" + b"}]" * (MOST_LEVELS // 2),
    "wide": json.dumps([[[]]] * 50_000).encode(),
    "brackets in a text": json.dumps({"a": "[" * 500 + '"\\' + "]" * 500}).encode(),
    "lines of their own": b'{"a": []}\n' * 1000,
    "no JSON": b"]" * 100_000,
    "a text without an end": b'"' + b"\\" * 100_001,
}
TOO_DEEP = {
    "a level too many": deep(MOST_LEVELS + 1),
    "after a text that ends with a backslash": b'{"a\\\\": %s}' % deep(MOST_LEVELS),
    "between shallow ones": b"[[],%s,[]]" % deep(MOST_LEVELS),
    "objects": b'{"a":' * 1500 + b"1" + b"}" * 1500,
    "on one of many lines": b"{}\n" * 1000 + deep(200),
}


@pytest.mark.parametrize("text", FINE.values(), ids=FINE)
def test_what_is_shallow_or_no_json_passes(text: bytes) -> None:
    """However wide it is, and whatever stands in its texts."""
    assert not nests_too_deep(text)


@pytest.mark.parametrize("text", TOO_DEEP.values(), ids=TOO_DEEP)
def test_what_nests_too_deep_is_found(text: bytes) -> None:
    """Wherever in it that is."""
    assert nests_too_deep(text)
