"""rest.fal.ai and *.fal.media: upload tokens, the webhook keys, uploads of all three kinds, and the files.

Files need no key. Those that belong to a request may be served badly, as its rule says.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import struct
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from .answers import FalError, Json, account_of, break_off, json_object
from .begun_uploads import BegunUploads, Expected
from .book import Account
from .cdn import UPLOAD_HOST, StoredFile, Terms
from .faults import FileFault
from .lifecycle import OF_PREFERENCE, OF_UPLOADS, lifecycle_asked_for
from .provider import Provider
from .upload_tokens import LIFETIME, UploadTokens

_FOREIGN_URL = "https://evil.example/picture.jpg"
_CHUNK_BYTES = 256 * 1024
_STALL_SECONDS = 20
_BOX_BYTES = 16
_MOST_PARTS = 10_000  # assumed: S3's
# What is forbidden is there, what is hidden is not. Assumed: the 404.
_UNREADABLE: dict[str, tuple[int, dict[str, str]]] = {
    "forbid": (403, {"detail": "Forbidden"}),
    "hide": (404, {"detail": "Not Found"}),
}
_STORAGE = "fal-cdn-v3"
_OPAQUE = "application/octet-stream"
_UNUSUAL = re.compile(r"[^A-Za-z0-9._-]+")


class StorageApi:
    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._cdn = provider.cdn
        self._tokens = UploadTokens(provider.options.home)
        begun = provider.options.home / "begun-uploads"
        self._tickets, self._in_parts = BegunUploads(begun / "whole"), BegunUploads(begun / "in-parts")

    def control_routes(self) -> list[Route]:
        return [
            Route("/.well-known/jwks.json", self.jwks, methods=["GET"]),
            Route("/storage/auth/token", self.token, methods=["POST"]),
            Route("/storage/upload/initiate", self.initiate, methods=["POST"]),
        ]

    def file_routes(self) -> list[Route]:
        multipart = "/files/{path:path}/multipart/{upload_id}"
        return [
            Route("/files/upload", self.upload, methods=["POST"]),
            Route("/files/upload/multipart", self.begin_multipart, methods=["POST"]),
            Route(f"{multipart}/complete", self.complete_multipart, methods=["POST"]),
            Route(f"{multipart}/{{number:int}}", self.upload_part, methods=["PUT"]),
            Route("/upload/{ticket}", self.upload_by_ticket, methods=["PUT"]),
            Route("/files/{path:path}", self.file, methods=["GET"]),
        ]

    async def jwks(self, _: Request) -> Response:
        return Json(self._provider.keys.jwks(), headers={"cache-control": "public, max-age=3600"})

    async def token(self, request: Request) -> Response:
        ends = datetime.now(UTC) + LIFETIME
        return Json(
            {
                "token": self._tokens.issue(account_of(request), ends=ends),
                "token_type": "Bearer",
                "base_url": f"https://{UPLOAD_HOST}",
                "expires_at": ends.isoformat(),
            }
        )

    async def initiate(self, request: Request) -> Response:
        terms, wanted = self._terms(account_of(request), request, OF_PREFERENCE), await json_object(request)
        # fal has refused the others, `gcs` among them, since 2026; fal's client still names that one where its first
        # way fails. Assumed: the code and the words.
        if (kind := request.query_params.get("storage_type", _STORAGE)) != _STORAGE:
            raise FalError(400, {"detail": f"Unsupported storage type: {kind}"})
        expected = Expected(
            url=_address(str(wanted.get("file_name") or "")),
            terms=terms,
            content_type=str(wanted.get("content_type") or _OPAQUE),
        )
        ticket = self._tickets.begin(expected)
        return Json({"upload_url": f"https://{UPLOAD_HOST}/upload/{ticket}", "file_url": expected.url})

    async def upload_by_ticket(self, request: Request) -> Response:
        ticket, content = request.path_params["ticket"], await request.body()
        if (expected := self._tickets.find(ticket)) is None:
            raise FalError(403, {"detail": "The upload URL is not valid"})
        kind = request.headers.get("content-type") or expected.content_type
        self._take(replace(expected, content_type=kind), content)
        self._tickets.end(ticket)  # the address serves once
        return Response()

    async def upload(self, request: Request) -> Response:
        expected = self._announced(request)
        self._take(expected, await request.body())
        return Json({"access_url": expected.url})

    async def begin_multipart(self, request: Request) -> Response:
        expected = self._announced(request)
        return Json({"access_url": expected.url, "uploadId": self._in_parts.begin(expected)})

    async def upload_part(self, request: Request) -> Response:
        content, number = await request.body(), request.path_params["number"]
        self._upload_in_parts(request)
        if not 1 <= number <= _MOST_PARTS:
            raise FalError(400, {"detail": f"A part's number is from 1 to {_MOST_PARTS}"})
        self._in_parts.keep_part(request.path_params["upload_id"], number, content)
        return Response(headers={"etag": _etag(content)})

    async def complete_multipart(self, request: Request) -> Response:
        listed, upload_id = _listed(await json_object(request)), request.path_params["upload_id"]
        expected = self._upload_in_parts(request)
        parts = self._in_parts.parts(upload_id)
        if listed != {number: _etag(part) for number, part in parts.items()}:
            raise FalError(400, {"detail": "The listed parts are not the uploaded ones"})
        self._take(expected, b"".join(parts.values()))
        self._in_parts.end(upload_id)
        return Response()

    async def file(self, request: Request) -> Response:
        if "authorization" in request.headers:
            self._cdn.reads_with_key += 1
        file = self._cdn.read(request.url.path)
        if file is None or file.fault is FileFault.MISSING:
            raise FalError(404, {"detail": "Not Found"})
        if not file.may_be_read(request.query_params.get("identity")):
            raise FalError(*_UNREADABLE[file.access])
        return _serve(request, file)

    def _announced(self, request: Request) -> Expected:
        return Expected(
            url=_address(request.headers.get("x-fal-file-name") or ""),
            terms=self._terms(self._uploader(request), request, OF_UPLOADS),
            content_type=request.headers.get("content-type") or _OPAQUE,
        )

    def _terms(self, account: Account, request: Request, header: str) -> Terms:
        # By fal's page of media expiration uploads are under the same control as what models make.
        return self._provider.terms(account, lifecycle_asked_for(request, header))

    def _take(self, expected: Expected, content: bytes) -> None:
        self._cdn.take(expected.url, content, content_type=expected.content_type, terms=expected.terms)

    def _upload_in_parts(self, request: Request) -> Expected:
        account, expected = self._uploader(request), self._in_parts.find(request.path_params["upload_id"])
        if expected is None or expected.terms.owner != account.user_id:
            raise FalError(404, {"detail": "No such upload"})
        return expected

    def _uploader(self, request: Request) -> Account:
        """Return whose token it is. Raise FalError for one that was not given out, or is over."""
        account = self._tokens.account_of(request.headers.get("authorization", "").removeprefix("Bearer "))
        if account is None:
            raise FalError(401, {"detail": "The upload token is not valid"})
        return account


def _listed(body: Mapping[str, Any]) -> dict[Any, Any] | None:
    """Return the entity tags of the parts that a client lists, by number. None: it is no such list."""
    try:
        return {part["partNumber"]: part["etag"] for part in body["parts"]}
    except (KeyError, TypeError):
        return None


def _address(file_name: str) -> str:
    """Return a new address for an upload."""
    # Of its own, whatever it is called: fal does not see that it has the same file already. The name's end stays in it,
    # which tells the type.
    name = _UNUSUAL.sub("_", file_name)[-80:] or "upload.bin"
    return f"https://{UPLOAD_HOST}/files/b/{secrets.token_hex(4)}/{secrets.token_urlsafe(12)}_{name}"


def _serve(request: Request, file: StoredFile) -> Response:
    size, wanted = len(file.content), file.faults.file_bytes
    if file.fault is FileFault.REDIRECT:
        return RedirectResponse(_FOREIGN_URL, status_code=302)
    if file.fault in (FileFault.TRUNCATED, FileFault.TRUNCATED_ONCE):
        return _stream(_cut(request, file.content[: size // 2]), file, declared=size)
    if file.fault is FileFault.STALLED_ONCE:
        return _stream(_cut(request, file.content[: size // 2], after=_STALL_SECONDS), file, declared=size)
    if file.fault is FileFault.HUGE:
        return _stream(_padded(file.content, wanted), file, declared=wanted)
    if file.fault is FileFault.LARGE:
        whole = max(wanted, size + _BOX_BYTES)
        return _stream(_padded(_with_room(file.content, whole), whole), file, declared=whole)
    if file.fault is FileFault.HUGE_UNDECLARED:
        return _stream(_padded(file.content, wanted), file, declared=None)
    return Response(file.content, headers=_headers(file) | {"cache-control": "public, max-age=31536000"})


def _stream(body: AsyncIterator[bytes], file: StoredFile, *, declared: int | None) -> Response:
    length = {} if declared is None else {"content-length": str(declared)}
    return StreamingResponse(body, headers=_headers(file) | length)


def _headers(file: StoredFile) -> dict[str, str]:
    """Return the header of the file's type."""
    # Not by `media_type`, which would add a charset that the uploader did not state.
    return {"content-type": file.content_type}


async def _cut(request: Request, beginning: bytes, *, after: float = 0) -> AsyncIterator[bytes]:
    yield beginning
    await asyncio.sleep(after)
    await break_off(request)


def _with_room(content: bytes, total: int) -> bytes:
    """Return the film and the head of a box of free space that goes to the end, which players pass over."""
    # In an MP4 the size 1 says that the real one follows in eight bytes.
    return content + struct.pack(">I4sQ", 1, b"free", total - len(content))


async def _padded(content: bytes, total: int) -> AsyncIterator[bytes]:
    yield content[:total]
    left = total - len(content)
    while left > 0:
        yield bytes(min(left, _CHUNK_BYTES))
        left -= _CHUNK_BYTES


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
