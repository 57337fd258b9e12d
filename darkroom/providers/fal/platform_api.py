"""How fal's platform API is called: by key, with patience where it asks for that, and failures as Darkroom's."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import httpx

from darkroom.errors import RateLimited, Retry
from darkroom.providers.fal.answers import answer_failure
from darkroom.providers.http import bounded, lost_call
from darkroom.tls import tls_context

API = "https://api.fal.ai/v1"
MOST_WAITS = 5  # for the rate limit, in one reading of a list
TIMEOUT = httpx.Timeout(15.0, connect=3.0)  # on a model's first use somebody's order waits for it


class PlatformApi:
    """`transport` and `pause` are the seam for tests."""

    def __init__(
        self, key: str, *, transport: httpx.BaseTransport | None = None, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._http = httpx.Client(
            headers={"Authorization": f"Key {key.strip()}"}, timeout=TIMEOUT, transport=transport, verify=tls_context()
        )
        self._pause = pause

    def close(self) -> None:
        self._http.close()

    def patiently(self, url: str, query: Mapping[str, Any], **instead: Any) -> Any:
        """As `get`, and wait where fal asks for patience."""
        for _ in range(MOST_WAITS):
            try:
                return self.get(url, query, **instead)
            except RateLimited as error:
                self._pause(error.retry_after.total_seconds() if error.retry_after else 1.0)
        return self.get(url, query, **instead)

    def get(self, url: str, query: Mapping[str, Any], *, refused: Collection[int] = (), **instead: Any) -> Any:
        """Return the answer's JSON object. `missing`: what stands for one that is not there.

        `refused`: the statuses that say that this key may not ask, for which it returns None.
        """
        response = self._sent(lambda: self._http.get(url, params=query))
        if response.status_code == 404 and "missing" in instead:
            return instead["missing"]
        if response.status_code in refused:
            return None
        if response.status_code == 429:
            raise RateLimited("fal asks for patience", retry_after=_reset(response))
        return _document(response)

    def post(self, url: str, body: Mapping[str, Any]) -> Any:
        """Return the answer's JSON object to a question that is asked in a body; None where fal knows nothing of it."""
        response = self._sent(lambda: self._http.post(url, json=body))
        # By a refusal fal says that it has no history of the model.
        return None if response.status_code in (400, 403, 404) else _document(response)

    def _sent(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        try:
            return send()
        except httpx.HTTPError as error:
            raise lost_call("fal", error) from error


def _document(response: httpx.Response) -> dict[str, Any]:
    if response.status_code != 200:
        raise answer_failure(response)
    try:
        document = response.json()
    except ValueError as error:
        raise Retry("fal's answer could not be read", code="unexpected_answer") from error
    if not isinstance(document, dict):
        raise Retry("fal's answer could not be read", code="unexpected_answer")
    return document


def _reset(response: httpx.Response) -> Any:
    """Return after how long fal's minute begins anew, as its header says."""
    value = response.headers.get("x-ratelimit-reset", "")
    return bounded(float(value) if value.isascii() and value.isdigit() else 1.0)
