"""What Mux keeps: uploads, the assets that become of them, and the webhooks it sends of what happens to those."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import io
import json
import math
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .book import Delivery, new_request_id
from .calls import Announcement, Call, CallFault
from .poster import Poster, PostError

_RETRIES = 10  # Mux goes on for 24 hours
_POST_TIMEOUT_SECONDS = 15.0
_OLD_SECONDS = 360  # receivers usually take what is five minutes old at most
_FORM = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(eq=False, kw_only=True)
class Upload:
    id: str
    secret: str  # in its address
    settings: dict[str, Any]
    cors_origin: str
    timeout: int
    test: bool
    status: str = "waiting"
    asset_id: str | None = None
    created_at: float = field(default_factory=time.time)

    def as_json(self, *, url: str | None) -> dict[str, Any]:
        """Return the upload as JSON. Tell its address while a film is waited for."""
        body: dict[str, Any] = {
            "id": self.id,
            "status": self.current,
            "timeout": self.timeout,
            "cors_origin": self.cors_origin,
            "new_asset_settings": self.settings,
            "test": self.test,
        }
        if self.asset_id:
            body["asset_id"] = self.asset_id
        return {**body, "url": url} if url and self.current == "waiting" else body

    @property
    def current(self) -> str:
        late = self.status == "waiting" and time.time() - self.created_at > self.timeout
        return "timed_out" if late else self.status


@dataclass(eq=False, kw_only=True)
class Film:
    """What is found out about one by reading it."""

    seconds: float
    width: int
    height: int
    frames_per_second: float
    has_sound: bool

    @property
    def aspect_ratio(self) -> str:
        divisor = math.gcd(self.width, self.height)
        return f"{self.width // divisor}:{self.height // divisor}"


@dataclass(eq=False, kw_only=True)
class Asset:
    id: str
    upload: Upload
    playback_id: str
    status: str = "preparing"
    film: Film | None = None
    upload_announced: bool = False  # that its upload became it: no webhook of that is to be sent any more
    announced: bool = False  # its end, likewise
    created_at: int = field(default_factory=lambda: int(time.time()))

    def as_json(self) -> dict[str, Any]:
        settings = self.upload.settings
        body: dict[str, Any] = {
            "id": self.id,
            "status": self.status,
            "created_at": str(self.created_at),
            "upload_id": self.upload.id,
            "ingest_type": "on_demand_direct_upload",
            "video_quality": settings.get("video_quality", "plus"),
            "encoding_tier": "baseline",
            "max_resolution_tier": "1080p",
            "master_access": "none",
            "mp4_support": "none",
            "test": self.upload.test,
            "playback_ids": [{"id": self.playback_id, "policy": each} for each in _policies(settings)],
            **{name: settings[name] for name in ("passthrough", "meta") if name in settings},
        }
        if self.status == "errored":
            words = "The input file does not contain a duration, or is not a video we can read."
            return {**body, "errors": {"type": "invalid_input", "messages": [words]}}
        return {**body, **_measures(self.film)} if self.status == "ready" and self.film else body


def read_film(content: bytes) -> Film | None:
    """Return what is to be known of a film, None of what is none. Every packet is read, none is decoded."""
    # Here, since PyAV takes 17 MB that a simulator of pictures does without.
    import av

    try:
        with av.open(io.BytesIO(content), "r") as container:
            if not container.streams.video:
                return None
            video = container.streams.video[0]
            ends = [
                float((p.pts + (p.duration or 0)) * p.time_base) for p in container.demux(video) if p.pts is not None
            ]
            return Film(
                seconds=round(max(ends), 6),
                width=video.width,
                height=video.height,
                frames_per_second=float(video.average_rate or 0),
                has_sound=bool(container.streams.audio),
            )
    except (av.FFmpegError, ValueError):  # ValueError: it has a stream of pictures, and no packet in it
        return None


def new_id() -> str:
    return "".join(secrets.choice(_FORM) for _ in range(44))


class Announcer:
    """Sends Mux' webhooks: signed, and repeated until somebody answers 2xx."""

    def __init__(self, url: str | None, *, secret: str, first_retry_seconds: float) -> None:
        self.url = url
        self._secret = secret
        self._first_retry_seconds = first_retry_seconds
        self._poster = Poster()

    def close(self) -> None:
        self._poster.close()

    async def tell(self, call: Call, kind: str, data: dict[str, Any]) -> None:
        fault = call.faults.webhook
        if self.url is None or fault is Announcement.LOST:
            return
        # One event, however often it is sent: by its id receivers know it again.
        body = json.dumps(_event(kind, data)).encode()
        if fault in (Announcement.FORGED, Announcement.OLD):
            await self._post(call, body, kind=fault.value, secret=_other(self._secret, fault), age=_age(fault))
            return
        for attempt in range(_RETRIES + 1):
            if attempt:
                await asyncio.sleep(self._first_retry_seconds * 2 ** (attempt - 1))
            if await self._post(call, body, kind=kind, secret=self._secret, age=0):
                break
        if fault is Announcement.TWICE:
            await self._post(call, body, kind=kind, secret=self._secret, age=0)

    async def _post(self, call: Call, body: bytes, *, kind: str, secret: str, age: int) -> bool:
        assert self.url is not None
        at, headers = datetime.now(UTC), signed_headers(body, secret=secret, timestamp=int(time.time()) - age)
        try:
            status = await self._poster.post(self.url, body, headers=headers, timeout=_POST_TIMEOUT_SECONDS)
        except PostError as error:
            call.deliveries.append(Delivery(at=at, kind=kind, status_code=None, error=str(error)))
            return False
        call.deliveries.append(Delivery(at=at, kind=kind, status_code=status))
        return 200 <= status < 300


def signed_headers(body: bytes, *, secret: str, timestamp: int) -> dict[str, str]:
    # By Mux' page on verifying webhooks: time, point and raw body.
    mac = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return {"Content-Type": "application/json", "Mux-Signature": f"t={timestamp},v1={mac}"}


def _event(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": kind,
        "id": new_request_id(),
        "created_at": datetime.now(UTC).isoformat(),
        "object": {"type": kind.split(".")[1], "id": data["id"]},
        "environment": {"name": "Production", "id": "simulated"},
        "data": data,
        "attempts": [],
        "request_id": None,
        "accessor": None,
        "accessor_source": None,
    }


def _other(secret: str, fault: Announcement) -> str:
    return secrets.token_hex(16) if fault is Announcement.FORGED else secret


def _age(fault: Announcement) -> int:
    return _OLD_SECONDS if fault is Announcement.OLD else 0


def _policies(settings: dict[str, Any]) -> list[str]:
    found = settings.get("playback_policies") or settings.get("playback_policy") or []
    return [found] if isinstance(found, str) else list(found)


def _measures(film: Film | None) -> dict[str, Any]:
    if film is None:
        return {}
    tracks: list[dict[str, Any]] = [
        {"type": "video", "id": new_id(), "max_width": film.width, "max_height": film.height, "duration": film.seconds}
    ]
    if film.has_sound:
        tracks.append({"type": "audio", "id": new_id(), "duration": film.seconds})
    return {
        "duration": film.seconds,
        "aspect_ratio": film.aspect_ratio,
        "max_stored_frame_rate": film.frames_per_second,
        "resolution_tier": "720p" if film.height <= 720 else "1080p",
        "tracks": tracks,
        "progress": {"state": "completed", "progress": 100},
    }


def ends_badly(call: Call, film: Film | None) -> bool:
    return film is None or call.faults.fault is CallFault.BAD_FILM
