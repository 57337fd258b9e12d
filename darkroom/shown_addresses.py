"""Addresses as they are shown: without the passwords, signatures and tokens that they may carry."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

HIDDEN = "…"
# By the words of a name, so that `max_tokens` and `keywords` are none.
_SECRET = re.compile(
    r"(?:^|[^a-z])(?:secret|password|passwd|pwd|token|api_?key|access_?key|private_?key|authorization|credentials?|"
    r"signature|sig|jwt|key)(?:$|[^a-z])"
)
# Before a capital in camelCase: `apiKey` is two words.
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_BETWEEN_ARGUMENTS = re.compile(r"([&;?])")  # of a fragment also what is before them: `#/back?token=…`


def is_secret(name: str) -> bool:
    """Return whether something of that name is for nobody's eyes."""
    return _SECRET.search(_WORDS.sub("_", name).lower()) is not None


def without_secrets(address: str) -> str:
    """Return the address without password, signature and the like in it."""
    try:
        parts = urlsplit(address)
    except ValueError:  # of what cannot be read as an address nobody knows what is a secret in it
        return HIDDEN
    # The last `@`: a password may have others.
    user, at, host = parts.netloc.rpartition("@")
    hidden = SplitResult(
        parts.scheme,
        f"{HIDDEN}{at}{host}" if user else parts.netloc,
        parts.path,
        _arguments(parts.query),
        _arguments(parts.fragment),  # an identity provider leads back with a token in it, a page keeps its own there
    )
    return urlunsplit(hidden)


def _arguments(written: str) -> str:
    # Not parsed and written anew: what is not hidden stands as it was sent.
    return "".join(map(_argument, _BETWEEN_ARGUMENTS.split(written)))


def _argument(written: str) -> str:
    name, equals, _ = written.partition("=")
    return f"{name}={HIDDEN}" if equals and is_secret(unquote(name)) else written
