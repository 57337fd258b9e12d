"""The HTTP API, as the Studio calls it: with the bearer of a session, over the wire's own format, inside the process.

The calls go through the whole application as those of any client do, its bounds and its refusals included.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx
from starlette.types import ASGIApp

ANY_FILE, ZIP = "application/octet-stream", "application/zip"
# Ids stand in it as they came in an address: one with anything else in it is none, and leads nowhere else.
_PATH = re.compile(r"/v1(?:/(?!\.{1,2}(?:/|$))[\w.~%@:+-]+)*", re.ASCII)
_NO_ID = {"title": "Not found", "detail": "There is nothing of this id.", "remedy": "Choose one from the navigation."}
_NO_JSON = {
    "title": "Bad input",
    "detail": "A number in it is none (NaN, or without end), or it is nested too deep.",
    "remedy": "Write another number, or leave the field empty.",
}


@dataclass(frozen=True, kw_only=True)
class FieldProblem:
    field: str
    detail: str
    remedy: str | None


class ApiProblem(Exception):
    """What the API refused: a problem document, as it came."""

    def __init__(self, status: int, document: Mapping[str, Any]) -> None:
        super().__init__(document.get("detail"))
        self.status = status
        self.title = str(document.get("title") or HTTPStatus(status).phrase)
        self.detail = str(document.get("detail") or "")
        self.field: str | None = document.get("field")
        self.remedy: str | None = document.get("remedy")
        self.errors = [
            FieldProblem(field=each["field"], detail=each["detail"], remedy=each.get("remedy"))
            for each in document.get("errors") or ()
        ]


@dataclass(frozen=True, kw_only=True)
class Api:
    """The API in the name of one bearer: paths as `/v1/jobs`, answers as they are in JSON. Raises ApiProblem."""

    http: httpx.AsyncClient
    bearer: str

    async def get(self, path: str, **parameters: Any) -> Any:
        """Parameters that are None or empty are left out."""
        # A filter that nothing was chosen in comes from its form as an empty text.
        given = {name: value for name, value in parameters.items() if value not in (None, "", [])}
        return await self._call("GET", path, params=given)

    async def post(self, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None) -> Any:
        return await self._call("POST", path, headers=headers, json=body)

    async def put(self, path: str, body: Any) -> Any:
        return await self._call("PUT", path, json=body)

    async def delete(self, path: str) -> Any:
        return await self._call("DELETE", path)

    async def upload(self, content: bytes, *, declared: str | None) -> Any:
        """Bring a file: `POST /v1/uploads`. What is called a picture or zip has to be one; all else goes by bytes."""
        # Browsers have many names for a type, of which the API refuses those that it does not know.
        content_type = declared if declared and declared.startswith(("image/", ZIP)) else ANY_FILE
        return await self._call("POST", "/v1/uploads", content=content, headers={"Content-Type": content_type})

    async def _call(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, json: Any = None, **given: Any
    ) -> Any:
        if not _PATH.fullmatch(path):
            raise ApiProblem(HTTPStatus.NOT_FOUND, _NO_ID)
        sent = {"Accept": "application/json", **(headers or {}), "Authorization": f"Bearer {self.bearer}"}
        if json is not None:
            given["content"], sent["Content-Type"] = _written(json), "application/json"
        # As bytes: what a form or a cookie had in it may be no ASCII.
        as_bytes = [(name.encode(), value.encode("utf-8", "surrogatepass")) for name, value in sent.items()]
        answer = await self.http.request(method, path, headers=as_bytes, **given)
        if answer.is_error:
            raise ApiProblem(answer.status_code, _document(answer))
        return answer.json() if answer.content else None


def _written(body: Any) -> str:
    """Write a body. Raise ApiProblem for what a form had that is no JSON: NaN, or too deep."""
    try:
        return json.dumps(body, allow_nan=False)  # in ASCII: half a surrogate pair is the API's to refuse
    except (ValueError, RecursionError):
        raise ApiProblem(HTTPStatus.UNPROCESSABLE_ENTITY, _NO_JSON) from None


def client_of(gateway: ASGIApp) -> httpx.AsyncClient:
    # Without a socket and without a thread: a page that waited in a thread for an answer that needs one, too, would be
    # waiting for itself, once enough pages do. What fails within is a 500, as to any client.
    transport = httpx.ASGITransport(gateway, raise_app_exceptions=False)
    # httpx wants a host, which nothing looks up; a proxy that the environment names has no part in it.
    return httpx.AsyncClient(transport=transport, base_url="http://gateway", trust_env=False, timeout=None)


def _document(answer: httpx.Response) -> Mapping[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"detail": "The gateway could not answer."}
