"""fal's queue: submit, status, result, cancel, upload.

Submitting is one plain POST of our own, because fal has no idempotency key and `fal_client.submit` repeats a POST whose
answer was lost (up to ten billed jobs). Status, result and cancel use `fal_client`'s handles for where to call, but not
for calling: their patience is ten tries of 120 s, fixed in the module, and `get()` polls ten times a second and drops
the header with the billed units. Uploads are `fal_client`'s (`uploads.py`). What the answers mean is in `answers.py`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any

import fal_client
import fal_client.client as fal_client_module
import httpx

from darkroom.errors import Permanent, Retry
from darkroom.providers.fal.answers import (
    REQUEST_ID,
    Cancelled,
    ProviderResult,
    ProviderStatus,
    Submitted,
    answer_failure,
    read_cancel,
    read_confirmation,
    read_page,
    read_result,
    read_status,
    read_submit,
)
from darkroom.providers.fal.uploads import Uploads
from darkroom.providers.http import lost_call, lost_submit
from darkroom.providers.pairing import Sent
from darkroom.timing import SUBMIT_PATIENCE
from darkroom.tls import tls_context

LEAST_START_TIMEOUT = timedelta(seconds=1.1)  # fal's own: its client wants more than a second
SUBMIT_TIMEOUT = httpx.Timeout(SUBMIT_PATIENCE.total_seconds(), connect=5.0)
# Within the 15 s that fal waits for the answer to a webhook.
CONFIRM_TIMEOUT = httpx.Timeout(5.0, connect=3.0)
CALL_TIMEOUT = httpx.Timeout(4.0, connect=3.0)  # of one try; two come to about 15 s where nothing answers
LIST_TIMEOUT = httpx.Timeout(7.0, connect=3.0)  # of one try of one page, as those of a call
LIST_URL = "https://api.fal.ai/v1/models/requests/by-endpoint"
TOO_LONG = "list_too_long"
LIST_PAGE = 100  # fal's own bound
MOST_PAGES = 50
LIST_PATIENCE = timedelta(seconds=20)  # for all pages of a list


class Fal:
    """One account's client. Thread-safe; `transport` is the seam for tests."""

    def __init__(self, key: str, *, transport: httpx.BaseTransport | None = None) -> None:
        # A key pasted with its line end would make every request an illegal one.
        self._key = key.strip()
        self._http = httpx.Client(
            headers={"Authorization": f"Key {self._key}", "User-Agent": fal_client_module.USER_AGENT},
            timeout=SUBMIT_TIMEOUT,
            transport=transport,
            verify=tls_context(),
        )
        self._uploads = Uploads(self._key)

    def close(self) -> None:
        self._http.close()
        self._uploads.close()

    def __enter__(self) -> Fal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def submit(
        self,
        endpoint: str,
        arguments: Mapping[str, Any],
        *,
        webhook_url: str | None,
        start_timeout: timedelta,
        outputs_last: timedelta | None = None,
    ) -> Submitted:
        """Make exactly one POST. Raise SubmitUnknown unless the job was surely made or surely refused.

        `outputs_last`: how long fal keeps the files that come of it. None: as its account says, mostly for ever.
        """
        # For the beginning alone, waiting in the queue included: fal stops nothing that runs by it.
        headers = {"X-Fal-Request-Timeout": str(max(start_timeout, LEAST_START_TIMEOUT).total_seconds())}
        if outputs_last is not None:
            seconds = int(outputs_last.total_seconds())
            headers["X-Fal-Object-Lifecycle-Preference"] = json.dumps({"expiration_duration_seconds": seconds})
        try:
            response = self._http.post(
                # fal_client's own, so that its variables for another host count here, too.
                fal_client_module.QUEUE_URL_FORMAT + endpoint,
                # Not in the input: fal ignores the fields that a model does not know.
                params={"fal_webhook": webhook_url} if webhook_url else None,
                json=arguments,
                headers=headers,
            )
        except httpx.HTTPError as error:
            raise lost_submit("fal", error) from error
        return read_submit(response)

    def status(self, endpoint: str, request_id: str) -> ProviderStatus:
        # fal gives the log only to who asks for it, and by it is told how far a training has come.
        return read_status(self._call("GET", self._handle(endpoint, request_id).status_url, params={"logs": "1"}))

    def result(self, endpoint: str, request_id: str) -> ProviderResult:
        """Fetch the output of a finished request.

        Raise Permanent for a rejected generation, Retry for one that may be submitted again or a GET to be repeated
        (`is_outcome` tells which), Retry(code="in_progress") while it runs, Permanent(code="not_found").
        """
        return read_result(self._call("GET", self._handle(endpoint, request_id).response_url))

    def cancel(self, endpoint: str, request_id: str) -> Cancelled:
        """Ask fal to cancel. A request that already runs usually goes on, and is billed."""
        return read_cancel(self._call("PUT", self._handle(endpoint, request_id).cancel_url))

    def confirm(self, endpoint: str, request_id: str) -> bool:
        """Return whether the request is this account's."""
        # One GET, in a short time: the sender of a webhook waits for the caller's answer.
        try:
            response = self._http.get(self._handle(endpoint, request_id).status_url, timeout=CONFIRM_TIMEOUT)
        except httpx.HTTPError as error:
            raise lost_call("fal", error) from error
        return read_confirmation(response)

    def sent(self, endpoint: str, *, since: datetime, until: datetime, now: datetime) -> list[Sent] | None:
        """List what this account has sent to the endpoint in that time; return None if the key may not read the list.

        Raise Retry for a list too long to be read: a part of it would tell half the truth.
        """
        # fal does not say which of a request's times it compares with `start` and `end`, and sorts by their ends: so
        # all is asked for up to `now`, which stays the same from page to page, and what was sent at another time is
        # left out here.
        query = {"endpoint_id": endpoint, "start": since.isoformat(), "end": now.isoformat()}
        query |= {"expand": "payloads", "limit": str(LIST_PAGE)}
        found: dict[str, Sent] = {}
        give_up = time.monotonic() + LIST_PATIENCE.total_seconds()
        for _ in range(MOST_PAGES):
            page = read_page(self._call("GET", LIST_URL, params=query, timeout=LIST_TIMEOUT))
            if page is None:
                return None
            # By id: pages are numbered, so that what ends meanwhile moves others to the next page.
            found |= {each.request_id: each for each in page.sent if since <= each.sent_at <= until}
            if page.next_cursor is None:
                return list(found.values())
            if time.monotonic() > give_up:
                break
            query["cursor"] = page.next_cursor
        raise Retry("fal's list of requests is too long to be searched", code=TOO_LONG)

    def upload(self, content: bytes, *, content_type: str, file_name: str, lifetime: timedelta) -> str:
        """Put a file on fal's CDN and return its URL.

        Anybody who knows the URL can read the file until its time is over.
        """
        try:
            return self._uploads.put(content, content_type=content_type, file_name=file_name, lifetime=lifetime)
        except fal_client.FalClientHTTPError as error:
            # Not `from error`: its text is the whole answer, and may quote what was sent.
            raise answer_failure(error.response) from None
        except httpx.HTTPStatusError as error:
            # The refusal of a token: fal_client's request for that raises httpx's own error.
            raise answer_failure(error.response) from error
        except httpx.HTTPError as error:
            raise lost_call("fal", error) from error
        except (KeyError, ValueError) as error:
            raise Retry("fal's answer to the upload could not be read", code="unexpected_answer") from error

    def _handle(self, endpoint: str, request_id: str) -> fal_client.SyncRequestHandle:
        """Return fal_client's handle, which knows where a request's three addresses are."""
        if not REQUEST_ID.fullmatch(request_id):
            raise Permanent("that is not a request id of fal's", code="not_found")
        return fal_client.SyncRequestHandle.from_request_id(self._http, endpoint, request_id)

    def _call(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        timeout: httpx.Timeout = CALL_TIMEOUT,
    ) -> httpx.Response:
        """Send a request, and once more after an error on the way."""
        # A connection that the server had just closed is not worth a failure.
        with suppress(httpx.HTTPError):
            return self._http.request(method, url, params=params, timeout=timeout)
        try:
            return self._http.request(method, url, params=params, timeout=timeout)
        except httpx.HTTPError as error:
            raise lost_call("fal", error) from error
