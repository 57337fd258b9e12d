"""How long a file lives: what a client asks for in a header, as JSON.

Uploads to the CDN read `X-Fal-Object-Lifecycle`; the storage's initiate, and submits for what they produce, read
`X-Fal-Object-Lifecycle-Preference`. fal's client sends both, a client of one's own can take the wrong one.
"""

from __future__ import annotations

import json

from starlette.requests import Request

from .answers import FalError

OF_UPLOADS = "x-fal-object-lifecycle"
OF_PREFERENCE = "x-fal-object-lifecycle-preference"


def lifetime_asked_for(request: Request, header: str) -> float | None:
    """Seconds. None and 0 mean for ever, at fal as well. Assumed: what cannot be read is refused."""
    text = request.headers.get(header)
    if text is None:
        return None
    try:
        seconds = json.loads(text).get("expiration_duration_seconds")
        return float(seconds) if seconds else None
    except (ValueError, TypeError, AttributeError):
        raise FalError(422, {"detail": f"{header} must be a JSON object with expiration_duration_seconds"}) from None
