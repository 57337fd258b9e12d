"""What was ordered, as it is shown: the order as it is on record, without what opens something.

Addresses may carry what opens them (`darkroom/shown_addresses.py`), and a project's own order a key: whoever reads a
job is not to get them by that. In lists long texts are cut, as one batch's manifest may be a megabyte.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from darkroom.shown_addresses import HIDDEN, is_secret, without_secrets

LONGEST_TEXT = 300  # characters, in lists
MOST_ITEMS = 20  # of a list, in lists
_WORD = re.compile(r"\S*")
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]{0,20}://\S+")


def shown_order(parameters: Mapping[str, Any] | None, *, whole: bool) -> dict[str, Any]:
    """Return the order without secrets. `whole`: also its long texts and lists."""
    return {name: _shown(name, value, whole) for name, value in (parameters or {}).items()}


def _shown(name: str, value: Any, whole: bool) -> Any:
    match value:
        case str() if is_secret(name):
            return HIDDEN
        case str():
            if whole or len(value) <= LONGEST_TEXT:
                return _without_secrets(value)
            # Cut in the end: of a password that is cut nobody could tell any more that it is one.
            end = _WORD.match(value, LONGEST_TEXT)
            return _without_secrets(value[: end.end() if end else LONGEST_TEXT])[:LONGEST_TEXT] + HIDDEN
        case Mapping():
            return {key: _shown(key, each, whole) for key, each in value.items()}
        case list() if not whole and len(value) > MOST_ITEMS:
            return [*(_shown(name, each, whole) for each in value[:MOST_ITEMS]), HIDDEN]
        case list():
            return [_shown(name, each, whole) for each in value]
        case _:
            return value


def _without_secrets(text: str) -> str:
    return _ADDRESS.sub(lambda found: without_secrets(found[0]), text)
