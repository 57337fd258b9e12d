"""Prefect's REST API over plain httpx: where it is, how a refused call reads, and which calls may be repeated.

One client kept open, instead of Prefect's own: that one is made anew for each call unless one is careful. Prefect is
not imported unless the environment says nothing about where its API is.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

import httpx

from darkroom.errors import DarkroomError, NeedsHuman, Permanent, Retry
from darkroom.tls import tls_context

MOST_PER_PAGE = 200  # Prefect's own bound
REPEAT_AFTER_SECONDS = (0.1, 0.4, 1.0)
# Below uvicorn's keep-alive of 5 s: a connection the server is just closing would lose a call that may not be repeated.
KEEP_ALIVE_SECONDS = 3.0
# Prefect's server answers 503 where its database could not.
UNAVAILABLE = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE})
# Prefect has not heard of the call: it may be repeated, whatever it does.
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class PrefectApi:
    def __init__(self, url: str, *, auth: str | None = None) -> None:
        self._http = httpx.Client(
            base_url=url,
            headers=_authorization(auth),
            timeout=httpx.Timeout(15.0, connect=5.0),
            limits=httpx.Limits(keepalive_expiry=KEEP_ALIVE_SECONDS),
            verify=tls_context(),
        )

    @classmethod
    def from_environment(cls) -> PrefectApi:
        """Connect to where Prefect's own settings point.

        That is `PREFECT_API_URL` and `PREFECT_API_AUTH_STRING`, else its profile.
        """
        if url := os.environ.get("PREFECT_API_URL"):
            return cls(url, auth=os.environ.get("PREFECT_API_AUTH_STRING"))
        # Last, because importing Prefect only to read two settings takes a second.
        from prefect.settings import get_current_settings

        api = get_current_settings().api
        if not api.url:
            raise NeedsHuman('PREFECT_API_URL is not set: eval "$(darkroom env)", or point it at your Prefect server')
        return cls(api.url, auth=api.auth_string.get_secret_value() if api.auth_string else None)

    def close(self) -> None:
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        repeatable: bool = True,
        absent: bool = False,
        conflict: bool = False,
    ) -> Any:
        """Call the API. Return the answer's JSON, `{}` if it has none.

        With `absent` a 404 is None; with `conflict` a 409 counts as done.
        """
        response = self._send(method, path, json=json, repeatable=repeatable)
        if absent and response.status_code == HTTPStatus.NOT_FOUND:
            return None
        if conflict and response.status_code == HTTPStatus.CONFLICT:
            return {}
        if not response.is_success:  # a redirect is a path spelt wrong, and nothing happened
            raise _refusal(response)
        return response.json() if response.content else {}

    def all_of(self, path: str, asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield all that is found by a question which is answered in pages.

        `asked`: with an order that does not change, so that none is missed between two pages.
        """
        looked_at = 0
        while True:
            page = self.call("POST", path, json={**asked, "limit": MOST_PER_PAGE, "offset": looked_at})
            yield from page
            looked_at += len(page)
            if len(page) < MOST_PER_PAGE:
                return

    def is_up(self) -> None:
        """Ask once whether it answers. Raises Retry, at once, where it does not."""
        try:
            self._http.get("/health").raise_for_status()
        except httpx.TransportError as error:
            raise _unreachable(error) from error
        except httpx.HTTPStatusError as error:
            raise _refusal(error.response) from error

    def _send(self, method: str, path: str, *, json: Any, repeatable: bool) -> httpx.Response:
        for pause in REPEAT_AFTER_SECONDS:
            try:
                response = self._http.request(method, path, json=json)
            except httpx.TransportError as error:
                if not (repeatable or isinstance(error, NEVER_SENT)):
                    raise _unreachable(error) from error
            else:
                if not repeatable or response.status_code not in UNAVAILABLE:
                    return response
            time.sleep(pause)
        try:
            return self._http.request(method, path, json=json)
        except httpx.TransportError as error:
            raise _unreachable(error) from error


def block_document(api: PrefectApi, slug: str) -> Mapping[str, Any] | None:
    """Return what the block `<type>/<name>` says, with its secrets; None where there is none."""
    kind, _, name = slug.partition("/")
    # Without the query secrets come as stars.
    path = f"/block_types/slug/{kind}/block_documents/name/{name}?include_secrets=true"
    document = api.call("GET", path, absent=True)
    return None if document is None else dict(document["data"])


def _authorization(auth: str | None) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(auth.encode()).decode()}"} if auth else {}


def _unreachable(error: httpx.TransportError) -> Retry:
    return Retry(f"Prefect's API does not answer ({type(error).__name__})", code="prefect_down")


def _refusal(response: httpx.Response) -> DarkroomError:
    """Describe a refused call without Prefect's own words."""
    # About refused parameters those repeat the values, and with them the prompt.
    call = f"{response.request.method} {response.request.url.path}"
    status = response.status_code
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return NeedsHuman(f"Prefect's API refused our PREFECT_API_AUTH_STRING ({status} on {call})")
    if status in UNAVAILABLE or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Retry(f"Prefect's API answered {status} to {call}", code="prefect_down")
    return Permanent(f"Prefect's API answered {status} to {call}", code="prefect_refused")
