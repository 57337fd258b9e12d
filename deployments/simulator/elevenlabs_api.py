"""api.elevenlabs.io: text to speech. Every voice id of the right form exists but those that begin with `missing`."""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from .answers import Json, break_off, no_answer
from .calls import Call, CallFault, Calls, Which
from .keys import ELEVENLABS_KEY
from .speech import make_speech

AT_ONCE = 5  # what the plan Creator allows
_MODELS = {"eleven_v3": 5_000, "eleven_turbo_v2_5": 40_000, "eleven_multilingual_v2": 10_000}  # most characters
_V3_STABILITIES = (0.0, 0.5, 1.0)  # other models take anything between
_VOICE = re.compile(r"(?!missing)[A-Za-z0-9]{1,64}")
_FORMAT = re.compile(r"mp3_(22050|24000|44100)_(32|48|64|96|128|192)")


class ElevenLabsError(Exception):
    """Ends a request with ElevenLabs' own JSON: a status and a message, or a list for a malformed request."""

    def __init__(self, http_status: int, detail: dict[str, str] | list[dict[str, Any]], **headers: str) -> None:
        super().__init__(str(detail))
        self.http_status = http_status
        self.detail = detail
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


async def answer_elevenlabs_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ElevenLabsError)
    return Json({"detail": error.detail}, status_code=error.http_status, headers=error.headers)


class ElevenLabsApi:
    def __init__(self, calls: Calls, *, latency: float) -> None:
        self._calls = calls
        self._latency = latency

    def routes(self) -> list[Route]:
        return [Route("/v1/text-to-speech/{voice_id}", self.speak, methods=["POST"])]

    async def speak(self, request: Request) -> Response:
        _check_key(request)
        body = await _body(request)
        asked = {**body, "voice_id": request.path_params["voice_id"]}
        with self._calls.taken(Which.ELEVENLABS, "speak", text=body["text"], input=asked) as call:
            try:
                return await self._answer(request, call)
            except ElevenLabsError as error:
                call.end(error.http_status)
                raise

    async def _answer(self, request: Request, call: Call) -> Response:
        if call.faults.fault is CallFault.PAGE:
            call.end(502)
            return HTMLResponse("<html><title>502 Bad Gateway</title></html>", status_code=502)
        self._refuse(call)
        sample_rate, bit_rate = _check(call.input, request.query_params.get("output_format", "mp3_44100_128"))
        await call.take_time(self._latency)
        voice = {"voice_id": call.input["voice_id"], "sample_rate": sample_rate, "bit_rate": bit_rate}
        sound = await asyncio.to_thread(make_speech, call.text, **voice)
        # From here on it is charged, whether the answer arrives or not.
        call.billed = True
        call.result = {"characters": len(call.text), "bytes": len(sound)}
        if call.faults.fault is CallFault.HANG_UP:
            call.end(None)
            return await no_answer(request)
        headers = {"request-id": secrets.token_urlsafe(15), "character-cost": str(len(call.text))}
        if call.faults.fault is CallFault.CUT:
            call.end(None)
            return _HalfAnswer(sound, request, headers=headers)
        call.end(200)
        content = b"" if call.faults.fault is CallFault.GARBAGE else sound
        return Response(content, media_type="audio/mpeg", headers=headers)

    def _refuse(self, call: Call) -> None:
        # There are two 429: this one is about the provider's load, the next about the account's plan.
        if call.faults.fault is CallFault.RATE_LIMITED:
            raise _refusal(429, "system_busy", "Our system is currently experiencing heavy traffic, try again.")
        # This call is one of them.
        if self._calls.under_way(Which.ELEVENLABS) > AT_ONCE:
            message = f"Too many concurrent requests. Your current subscription allows {AT_ONCE} at once."
            raise _refusal(429, "too_many_concurrent_requests", message)
        match call.faults.fault:
            case CallFault.QUOTA:
                message = (
                    f"This request exceeds your quota. You have 3 credits remaining, {len(call.text)} are required."
                )
                # A bad key is a 401 too: the status in the body tells them apart.
                raise _refusal(401, "quota_exceeded", message)
            case CallFault.SERVER_ERROR:
                raise _refusal(500, "internal_error", "An internal error occurred.")
            case CallFault.UNAVAILABLE:
                raise _refusal(503, "service_unavailable", "The service is unavailable.")
            case CallFault.REJECT:
                raise _refusal(400, "text_rejected", "The text cannot be spoken.")


class _HalfAnswer(Response):
    """Half of the sound under an honest Content-Length."""

    def __init__(self, content: bytes, request: Request, *, headers: dict[str, str]) -> None:
        super().__init__(content, media_type="audio/mpeg", headers=headers)
        self._request = request

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        await break_off(self._request)


def _refusal(http_status: int, status: str, message: str) -> ElevenLabsError:
    return ElevenLabsError(http_status, {"status": status, "message": message})


def _check_key(request: Request) -> None:
    if request.headers.get("xi-api-key") != ELEVENLABS_KEY:
        raise _refusal(401, "invalid_api_key", "Invalid API key")


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict) or not isinstance(body.get("text"), str):
        item = {"type": "missing", "loc": ["body", "text"], "msg": "Field required", "input": body}
        raise ElevenLabsError(422, [item])
    return body


def _check(asked: dict[str, Any], output_format: str) -> tuple[int, int]:
    """Sample rate and bits a second."""
    text, voice_id, model = asked["text"], asked["voice_id"], asked.get("model_id", "eleven_multilingual_v2")
    if model not in _MODELS:
        raise _refusal(400, "model_not_found", f"A model with model ID {model} does not exist.")
    if not _VOICE.fullmatch(voice_id):
        raise _refusal(404, "voice_not_found", f"A voice with the voice_id {voice_id} was not found.")
    if not text.strip():
        raise _refusal(400, "input_text_empty", "Text must not be empty.")
    if len(text) > _MODELS[model]:
        message = f"This request's text has {len(text)} characters and exceeds the limit of {_MODELS[model]}."
        raise _refusal(400, "max_character_limit_exceeded", message)
    stability = (asked.get("voice_settings") or {}).get("stability")
    if model == "eleven_v3" and stability is not None and stability not in _V3_STABILITIES:
        raise _refusal(400, "invalid_ttd_stability", "Invalid TTD stability value. Must be one of 0.0, 0.5 or 1.0.")
    found = _FORMAT.fullmatch(output_format)
    if found is None:
        raise _refusal(400, "invalid_output_format", f"Unknown output format {output_format}.")
    return int(found[1]), int(found[2]) * 1000
