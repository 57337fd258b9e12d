"""How long a file lives: what a client asks for in a header, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request

from .answers import FalError

# fal's client sends both with an upload; one's own client can take the wrong one.
OF_UPLOADS = "x-fal-object-lifecycle"  # read by uploads to the CDN
OF_PREFERENCE = "x-fal-object-lifecycle-preference"  # by the storage's initiate, and by submits for what they produce


_ACCESS = ("allow", "forbid", "hide")


@dataclass(frozen=True, kw_only=True)
class Lifecycle:
    """What is asked for a file. `seconds` 0 means for ever. None: nothing is asked, so that the account decides."""

    seconds: float | None = None
    access: str | None = None


def lifecycle_asked_for(request: Request, header: str) -> Lifecycle:
    """Read the header. Raise FalError for one that cannot be read."""
    text = request.headers.get(header)
    if text is None:
        return Lifecycle()
    try:
        asked = json.loads(text)
        acl = asked.get("initial_acl")
        access = None if acl is None else acl["default"]
        if access not in (None, *_ACCESS):
            raise ValueError(access)
        return Lifecycle(seconds=_seconds(asked), access=access)
    # Assumed: fal refuses what it cannot read, and does not pass over it.
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError):
        message = f"{header} must be a JSON object with expiration_duration_seconds, or initial_acl with a default"
        raise FalError(422, {"detail": message}) from None


def _seconds(asked: Mapping[str, Any]) -> float | None:
    if "expiration_duration_seconds" not in asked:
        return None
    said = asked["expiration_duration_seconds"]
    # By fal's page of media expiration null is no expiration, whatever the account's setting.
    seconds = 0.0 if said is None else float(said)
    if seconds < 0:
        raise ValueError(seconds)
    _ = datetime.now(UTC) + timedelta(seconds=seconds)  # raises for what is no number, and for an end beyond all time
    return seconds
