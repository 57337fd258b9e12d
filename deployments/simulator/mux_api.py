"""api.mux.com and the host its direct uploads go to: an address for a film, the film, and its outcome."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Coroutine
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from .answers import Json, no_answer
from .calls import Call, CallFault, CallFaults, Calls, Which
from .keys import MUX_TOKEN_ID, MUX_TOKEN_SECRET
from .mux_assets import Announcer, Asset, Upload, ends_badly, new_id, read_film
from .mux_book import MuxBook

STORAGE_HOST = "direct-uploads.production.mux.com"
_SHORTEST_TIMEOUT, _LONGEST_TIMEOUT = 60, 604_800  # seconds; Mux' own bounds
_STATUSES = {CallFault.RATE_LIMITED: 429, CallFault.SERVER_ERROR: 500, CallFault.UNAVAILABLE: 503}


class MuxError(Exception):
    """Ends a request with Mux' own JSON."""

    def __init__(self, http_status: int, kind: str, *messages: str, **headers: str) -> None:
        super().__init__(kind)
        self.http_status = http_status
        self.body = {"error": {"type": kind, "messages": list(messages)}}
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


async def answer_mux_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, MuxError)
    return Json(error.body, status_code=error.http_status, headers=error.headers)


class MuxApi:
    def __init__(self, calls: Calls, announcer: Announcer, book: MuxBook, *, latency: float) -> None:
        self._calls = calls
        self._announcer = announcer
        self._latency = latency
        self._book = book
        self._tasks: set[asyncio.Task[None]] = set()

    def routes(self) -> list[Route]:
        return [
            Route("/video/v1/uploads", self.create_upload, methods=["POST"]),
            Route("/video/v1/uploads/{upload_id}", self.upload, methods=["GET"]),
            Route("/video/v1/uploads/{upload_id}/cancel", self.cancel_upload, methods=["PUT"]),
            Route("/video/v1/assets/{asset_id}", self.asset, methods=["GET"]),
        ]

    def storage_routes(self) -> list[Route]:
        """No key: the address itself is the permission."""
        return [Route("/upload/{secret}", self.put_film, methods=["PUT"])]

    def go_on(self) -> None:
        """Prepare and announce what an earlier process was preparing or announcing when it was killed."""
        for asset in self._book.unannounced():
            # Calls are not on disk: one without faults takes its place.
            call = Call(provider=Which.MUX, operation="put_film", text="", input={}, faults=CallFaults())
            if not asset.upload_announced:
                self._start(self._announce_upload(call, asset))
            if asset.status == "preparing":
                self._start(self._prepare(call, asset, self._book.film(asset)))
            elif not asset.announced:
                self._start(self._announce(call, asset))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._announcer.close()

    async def create_upload(self, request: Request) -> Response:
        _check_token(request)
        body = await _body(request)
        settings = body.get("new_asset_settings") or {}
        with self._calls.taken(Which.MUX, "create_upload", text=_title(settings), input=body) as call:
            if (refusal := _refusal(call)) is not None:
                return refusal
            await call.take_time(0)
            upload = self._new_upload(body, settings)
            call.result = {"upload_id": upload.id}
            if call.faults.fault is CallFault.HANG_UP:
                call.end(None)
                return await no_answer(request)
            call.end(201)  # of any other 2xx Mux' own SDK makes nothing
            return Json({"data": upload.as_json(url=_address(upload))}, status_code=201)

    def _new_upload(self, body: dict[str, Any], settings: dict[str, Any]) -> Upload:
        timeout = body.get("timeout", 3600)
        if not isinstance(timeout, int) or not _SHORTEST_TIMEOUT <= timeout <= _LONGEST_TIMEOUT:
            raise MuxError(400, "invalid_parameters", "timeout must be from 60 to 604800 seconds")
        upload = Upload(
            id=new_id(),
            secret=new_id(),
            settings=settings,
            cors_origin=body.get("cors_origin", ""),
            timeout=timeout,
            test=bool(body.get("test")),
        )
        self._book.uploads[upload.id] = upload
        self._book.save()
        return upload

    async def upload(self, request: Request) -> Response:
        upload = self._known_upload(request)
        return Json({"data": upload.as_json(url=_address(upload))})

    async def cancel_upload(self, request: Request) -> Response:
        upload = self._known_upload(request)
        asked = {"upload_id": upload.id}
        with self._calls.taken(Which.MUX, "cancel_upload", text=_title(upload.settings), input=asked) as call:
            if (refusal := _refusal(call)) is not None:
                return refusal
            if upload.current != "waiting":
                call.end(403)
                raise MuxError(403, "invalid_parameters", "Only uploads that are waiting can be cancelled.")
            upload.status = "cancelled"
            self._book.save()
            call.end(200)
            return Json({"data": upload.as_json(url=None)})

    async def asset(self, request: Request) -> Response:
        _check_token(request)
        asset = self._book.assets.get(request.path_params["asset_id"])
        if asset is None:
            raise _not_found()
        return Json({"data": asset.as_json()})

    async def put_film(self, request: Request) -> Response:
        upload = next(
            (each for each in self._book.uploads.values() if each.secret == request.path_params["secret"]), None
        )
        content = await request.body()
        if upload is None or upload.current in ("timed_out", "asset_created"):
            return Response(status_code=404)
        asked = {"upload_id": upload.id, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        with self._calls.taken(Which.MUX, "put_film", text=_title(upload.settings), input=asked) as call:
            if (refusal := _refusal(call)) is not None:
                return refusal
            if upload.status == "waiting":  # of one that was cancelled nothing comes, though its film is taken
                self._take(call, upload, content)
            if call.faults.fault is CallFault.HANG_UP:
                call.end(None)
                return await no_answer(request)
            call.end(200)
            return Response(status_code=200)

    def _take(self, call: Call, upload: Upload, content: bytes) -> None:
        asset = Asset(id=new_id(), upload=upload, playback_id=new_id())
        upload.status, upload.asset_id = "asset_created", asset.id
        # The film first: after a kill an asset on record is prepared of it.
        self._book.keep_film(asset, content)
        self._book.assets[asset.id] = asset
        self._book.save()
        call.result = {"asset_id": asset.id, "playback_id": asset.playback_id}
        call.billed = True
        # Not waited for: the PUT is answered whether webhooks arrive or not, and their retries take minutes.
        self._start(self._announce_upload(call, asset))
        self._start(self._prepare(call, asset, content))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _prepare(self, call: Call, asset: Asset, content: bytes) -> None:
        asset.film = await asyncio.to_thread(read_film, content)
        await call.take_time(self._latency)
        bad = ends_badly(call, asset.film)
        asset.status = "errored" if bad else "ready"
        self._book.save()
        self._book.drop_film(asset)  # last: as long as the book says `preparing` it is needed
        call.billed = not bad
        call.result["status"] = asset.status
        await self._announce(call, asset)

    async def _announce_upload(self, call: Call, asset: Asset) -> None:
        await self._announcer.tell(call, "video.upload.asset_created", asset.upload.as_json(url=None))
        # Afterwards: one who is killed before this announces it once more, which Mux may do too.
        asset.upload_announced = True
        self._book.save()

    async def _announce(self, call: Call, asset: Asset) -> None:
        await self._announcer.tell(call, f"video.asset.{asset.status}", asset.as_json())
        asset.announced = True
        self._book.save()

    def _known_upload(self, request: Request) -> Upload:
        _check_token(request)
        upload = self._book.uploads.get(request.path_params["upload_id"])
        if upload is None:
            raise _not_found()
        return upload


def _refusal(call: Call) -> Response | None:
    match call.faults.fault:
        case CallFault.PAGE:
            call.end(502)
            return HTMLResponse("<html><title>502 Bad Gateway</title></html>", status_code=502)
        case CallFault.REJECT:
            call.end(400)
            raise MuxError(400, "invalid_parameters", "Invalid parameters.")
        case CallFault.QUOTA:
            call.end(403)
            raise MuxError(403, "forbidden", "The free plan is limited to 10 assets.")
        case fault if fault in _STATUSES:
            call.end(_STATUSES[fault])
            headers = {"retry_after": str(call.faults.retry_after)} if fault is CallFault.RATE_LIMITED else {}
            raise MuxError(_STATUSES[fault], "error", "Try again later.", **headers)
        case _:
            return None


def _check_token(request: Request) -> None:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    expected = base64.b64encode(f"{MUX_TOKEN_ID}:{MUX_TOKEN_SECRET}".encode()).decode()
    if scheme.lower() != "basic" or given != expected:
        raise MuxError(401, "unauthorized", "Unauthorized request")


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise MuxError(400, "invalid_parameters", "Invalid JSON")
    return body


def _not_found() -> MuxError:
    return MuxError(404, "not_found", "The requested resource either doesn't exist or you don't have access to it.")


def _address(upload: Upload) -> str:
    return f"https://{STORAGE_HOST}/upload/{upload.secret}"


def _title(settings: dict[str, Any]) -> str:
    return str((settings.get("meta") or {}).get("title") or "")
