"""Mux behind the seam of all providers: a call is a direct upload, taken when it has an address, paid with its film.

So a lost answer to its creation is a sure refusal: an upload without a film is free, and Mux forgets it. The film is
brought once the upload's id is on record (`Accepted.deliver`). Where that fails the upload is cancelled at Mux.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import httpx

from darkroom.clock import utc_now
from darkroom.errors import DarkroomError, Permanent, Retry
from darkroom.ledger import Outcome, Request
from darkroom.media.formats import Media
from darkroom.providers.base import Accepted, Files, Provider
from darkroom.providers.http import lost_call
from darkroom.providers.mux.api import MuxApi
from darkroom.providers.mux.outcomes import asset_outcome, is_abandoned, upload_outcome
from darkroom.providers.outcomes import failed
from darkroom.tls import tls_context

PUT_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
# Of the whole delivery: what takes longer would be found abandoned in its middle (`outcomes.ABANDONED_AFTER`).
DELIVERY_SECONDS = 120.0
PIECE_BYTES = 1 << 18


class Mux(Provider):
    """One environment. Thread-safe."""

    def __init__(self, api: MuxApi) -> None:
        self._api = api
        # Without the account's secret: the address is signed.
        self._http = httpx.Client(timeout=PUT_TIMEOUT, verify=tls_context())

    def prepare(self, input: Mapping[str, Any], *, files: Files) -> Mapping[str, Any]:
        return {**input, "video": files.read(str(input["video"]))}

    def submit(self, row: Request, input: Mapping[str, Any], *, webhook_url: str | None) -> Accepted | Outcome:
        upload = self._api.create_upload(passthrough=row.ref, title=input.get("title"))
        upload_id, film = str(upload["id"]), input["video"]
        assert isinstance(film, Media)
        return Accepted(request_id=upload_id, deliver=partial(self._deliver, upload_id, str(upload["url"]), film))

    def poll(self, row: Request) -> Outcome | None:
        """Poll how the call ended, by the upload's id."""
        assert row.request_id is not None
        try:
            return self._poll(row, row.request_id)
        except Permanent as error:
            if error.code != "not_found":
                raise
            # Mux forgets an upload to which no film has come.
            return failed(row, error)

    def _poll(self, row: Request, upload_id: str) -> Outcome | None:
        upload = self._api.upload(upload_id)
        if is_abandoned(row, upload, now=utc_now()) and self._give_up(upload_id):
            upload = {**upload, "status": "cancelled"}
        if upload.get("status") != "asset_created":
            return upload_outcome(row, upload)
        return asset_outcome(row, self._api.asset(str(upload.get("asset_id"))))

    def cancel(self, row: Request) -> None:
        """Cancel the upload. One that has its film goes on, and is billed."""
        assert row.request_id is not None
        # Its film has come, or Mux has forgotten it.
        with suppress(Permanent):
            self._api.cancel_upload(row.request_id)

    def close(self) -> None:
        self._http.close()
        self._api.close()

    def _deliver(self, upload_id: str, url: str, film: Media) -> None:
        try:
            self._put(url, film)
        except DarkroomError as error:
            # Else its film may be there all the same, and `poll` tells how it ends.
            if self._give_up(upload_id):
                raise Retry(f"the film did not get to Mux: {error.message}", code="upload_failed") from error

    def _give_up(self, upload_id: str) -> bool:
        """Cancel the upload. Return whether nothing can come of it from now on.

        If not, it has its film, or Mux cannot be asked.
        """
        # Mux allows it only while there is no film: either nothing can come of it any more, or the film did arrive.
        try:
            self._api.cancel_upload(upload_id)
        except DarkroomError:
            return False
        return True

    def _put(self, url: str, film: Media) -> None:
        headers = {"Content-Type": film.content_type, "Content-Length": str(len(film.content))}
        try:
            answer = self._http.put(url, content=_pieces(film.content), headers=headers)
        except httpx.HTTPError as error:
            raise lost_call("Mux' storage", error) from error
        if not answer.is_success:
            raise Retry(f"Mux' storage answered HTTP {answer.status_code}")


def _pieces(content: bytes) -> Iterator[bytes]:
    """Yield the content piece by piece. Raise Retry when the delivery takes too long."""
    # httpx bounds only the time between two pieces.
    until = time.monotonic() + DELIVERY_SECONDS
    for start in range(0, len(content), PIECE_BYTES):
        if time.monotonic() > until:
            raise Retry("the line to Mux' storage is too slow")
        yield content[start : start + PIECE_BYTES]
