"""How long a file lives: what a client asks for in a header, as JSON.

Uploads to the CDN read `X-Fal-Object-Lifecycle`; the storage's initiate, and submits for what they produce, read
`X-Fal-Object-Lifecycle-Preference`. fal's client sends both, one's own client can take the wrong one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from starlette.requests import Request

from .answers import FalError

OF_UPLOADS = "x-fal-object-lifecycle"
OF_PREFERENCE = "x-fal-object-lifecycle-preference"


_ACCESS = ("allow", "forbid", "hide")


@dataclass(frozen=True, kw_only=True)
class Lifecycle:
    """What is asked for a file. `seconds` None and 0 mean for ever, at fal as well. `access` None: the account's."""

    seconds: float | None = None
    access: str | None = None


def lifecycle_asked_for(request: Request, header: str) -> Lifecycle:
    """Read the header. Assumed: what cannot be read is refused."""
    text = request.headers.get(header)
    if text is None:
        return Lifecycle()
    try:
        asked = json.loads(text)
        seconds, acl = asked.get("expiration_duration_seconds"), asked.get("initial_acl")
        access = None if acl is None else acl["default"]
        if access not in (None, *_ACCESS):
            raise ValueError(access)
        return Lifecycle(seconds=float(seconds) if seconds else None, access=access)
    except (ValueError, TypeError, AttributeError, KeyError):
        message = f"{header} must be a JSON object with expiration_duration_seconds, or initial_acl with a default"
        raise FalError(422, {"detail": message}) from None


def lifetime_asked_for(request: Request, header: str) -> float | None:
    return lifecycle_asked_for(request, header).seconds
