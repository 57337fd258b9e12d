"""The open web as a provider: a call is a picture fetched, made smaller and handed over within the call itself."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from decimal import Decimal
from threading import Lock
from typing import Any

from darkroom.errors import DarkroomError
from darkroom.ledger import Outcome, Request, Transition
from darkroom.media.formats import Media
from darkroom.media.resize import resize
from darkroom.providers.base import Provider
from darkroom.providers.web.fetching import Web


class WebProvider(Provider):
    """Thread-safe."""

    immediate = True

    def __init__(self, web: Web) -> None:
        self._web = web
        self._resizing = Lock()  # for the memory: what was decoded of a large picture lies there as pixels

    def submit(self, row: Request, input: Mapping[str, Any], *, webhook_url: str | None) -> Outcome:
        try:
            fetched = self._web.fetch(input["url"])
            with self._resizing:
                picture = resize(fetched, max_width=input["max_width"], quality=input["quality"])
        except DarkroomError as error:
            # An outcome, never raised: one host that is out, or asks for less, must not stop the fetching from others.
            return Outcome(transition=Transition.FAIL, error=error.of(step=row.step, ref=row.ref).document())
        return Outcome(transition=Transition.SUCCEED, output={"image": _document(picture)}, cost_usd=Decimal(0))

    def poll(self, row: Request) -> None:
        """Return None: nobody has it after the call, so there is nobody to ask."""

    def cancel(self, row: Request) -> None:
        """Do nothing: the call ends by itself within the minute."""


def _document(picture: Media) -> dict[str, Any]:
    document = {
        # Within the answer: the host may have changed it or be gone when it is stored.
        "url": f"data:{picture.content_type};base64,{b64encode(picture.content).decode()}",
        "content_type": picture.content_type,
        "width": picture.width,
        "height": picture.height,
    }
    return {**document, "notes": list(picture.notes)} if picture.notes else document
