"""What was ordered, as it is shown: the order as it is on record, without what opens something.

Addresses may carry passwords and signatures, and a project's own order a key: whoever reads a job is not to get them
by that. In lists long texts are cut, as one batch's manifest may be a megabyte.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit, urlunsplit

HIDDEN = "…"
LONGEST_TEXT = 300  # characters, in lists
MOST_ITEMS = 20  # of a list, in lists
# By the words of a name, so that `max_tokens` and `keywords` are none.
_SECRET = re.compile(
    r"(?:^|[^a-z])(?:secret|password|passwd|pwd|token|api_?key|access_?key|private_?key|authorization|credentials?|"
    r"signature|sig|jwt|key)(?:$|[^a-z])"
)
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]{0,20}://\S+")


def shown_order(parameters: Mapping[str, Any] | None, *, whole: bool) -> dict[str, Any]:
    """Return the order without secrets. `whole`: also its long texts and lists."""
    return {name: _shown(name, value, whole) for name, value in (parameters or {}).items()}


def _shown(name: str, value: Any, whole: bool) -> Any:
    match value:
        case str() if is_secret(name):
            return HIDDEN
        case str():
            text = value if whole or len(value) <= LONGEST_TEXT else f"{value[:LONGEST_TEXT]}{HIDDEN}"
            return _ADDRESS.sub(lambda found: without_secrets(found[0]), text)
        case Mapping():
            return {key: _shown(key, each, whole) for key, each in value.items()}
        case list() if not whole and len(value) > MOST_ITEMS:
            return [*(_shown(name, each, whole) for each in value[:MOST_ITEMS]), HIDDEN]
        case list():
            return [_shown(name, each, whole) for each in value]
        case _:
            return value


def is_secret(name: str) -> bool:
    """Return whether something of that name is for nobody's eyes."""
    return _SECRET.search(_WORDS.sub("_", name).lower()) is not None


def without_secrets(address: str) -> str:
    """Return the address without password, signature and the like in it."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return HIDDEN
    user, at, host = parts.netloc.rpartition("@")
    hidden = SplitResult(
        parts.scheme,
        f"{HIDDEN}{at}{host}" if user else parts.netloc,
        parts.path,
        "&".join(map(_argument, parts.query.split("&"))) if parts.query else "",
        parts.fragment,
    )
    return urlunsplit(hidden)


def _argument(written: str) -> str:
    name, equals, _ = written.partition("=")
    return f"{name}={HIDDEN}" if equals and is_secret(name) else written
