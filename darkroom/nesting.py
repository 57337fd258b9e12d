"""How deep JSON that strangers send may nest, told from its bytes alone.

Whatever reads, checks or writes nested values calls itself for every level, and Python ends that with a RecursionError.
So the depth is bounded before anything is parsed. It is counted without a loop over characters: strings are cut out,
all but the brackets is deleted, and then pairs are taken away, a level at a time.
"""

from __future__ import annotations

import re

MOST_LEVELS = 64

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_ALIKE = bytes.maketrans(b"{}", b"[]")
_OTHERS = bytes(each for each in range(256) if each not in b"[]{}")


def nests_too_deep(text: bytes) -> bool:
    """Return whether the JSON has more levels than it may. What is no JSON may be called either."""
    if text.count(b"[") + text.count(b"{") <= MOST_LEVELS:
        return False
    brackets = _STRING.sub(b"", text).translate(_ALIKE, _OTHERS)
    for _ in range(MOST_LEVELS):
        outer = brackets.replace(b"[]", b"")
        if len(outer) == len(brackets):
            return False
        brackets = outer
    return b"[]" in brackets
