"""How deep JSON that strangers send may nest, told from its bytes alone.

Whatever reads, checks or writes nested values calls itself for every level, and Python ends that with a RecursionError.
So the depth is bounded before anything is parsed. It is counted over the brackets alone: strings are cut out first, and
everything else.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any

MOST_LEVELS = 64

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_ALIKE = bytes.maketrans(b"{}", b"[]")
_STEPS = {ord("["): 1, ord("]"): -1}
_OTHERS = bytes(each for each in range(256) if each not in b"[]{}")


def nests_too_deep(text: bytes, *, most: int = MOST_LEVELS) -> bool:
    """Return whether the JSON has more levels than it may. What is no JSON may be called either."""
    if text.count(b"[") + text.count(b"{") <= most:
        return False
    brackets = _STRING.sub(b"", text).translate(_ALIKE, _OTHERS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > most


def read_json(text: str) -> Any:
    """Parse JSON that somebody has written into a field. Raise ValueError for what is none, or nests too deep."""
    if nests_too_deep(text.encode("utf-8", "surrogatepass")):
        raise ValueError(f"it is nested more than {MOST_LEVELS} levels deep")
    return json.loads(text, parse_constant=_no_number)


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number: write null")
