"""generativelanguage.googleapis.com: `generateContent`, in text or as JSON that obeys the schema it is given."""

from __future__ import annotations

import json
import secrets
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from .answers import Json, no_answer
from .calls import Call, CallFault, Calls, Which
from .keys import GEMINI_KEY
from .script_writer import speak, write

_MODELS = ("gemini-2.5-flash", "gemini-2.5-flash-lite", "gemini-2.5-pro")
_VERSIONS = ("v1", "v1beta")
_METHOD = ":generateContent"
_LETTERS_PER_TOKEN = 4  # a rule of thumb: nothing here counts tokens
_DEFAULT_MAX_TOKENS = 65_536
_THOUGHTS = 40  # tokens
_REASON = "type.googleapis.com/google.rpc.ErrorInfo"
_RETRY = "type.googleapis.com/google.rpc.RetryInfo"


class GeminiError(Exception):
    """Ends a request with Google's own JSON."""

    def __init__(self, code: int, status: str, message: str, *details: dict[str, Any]) -> None:
        super().__init__(message)
        self.code = code
        self.body = {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


async def answer_gemini_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, GeminiError)
    return Json(error.body, status_code=error.code)


class GeminiApi:
    def __init__(self, calls: Calls, *, latency: float) -> None:
        self._calls = calls
        self._latency = latency

    def routes(self) -> list[Route]:
        return [Route("/{version}/models/{model_and_method}", self.generate, methods=["POST"])]

    async def generate(self, request: Request) -> Response:
        model = _model(request)
        _check_key(request)
        body = await _body(request)
        with self._calls.taken(Which.GEMINI, "generate", text=_said(body), input=body) as call:
            try:
                return await self._answer(request, call, model)
            except GeminiError as error:
                call.end(error.code)
                raise

    async def _answer(self, request: Request, call: Call, model: str) -> Response:
        _refuse(call)
        if call.faults.fault is CallFault.PAGE:
            call.end(502)
            return HTMLResponse("<html><title>502 Bad Gateway</title></html>", status_code=502)
        await call.take_time(self._latency)
        answer = _answer(call, model)
        # From here on it is charged, whether the answer arrives or not.
        call.billed = True
        call.result = {"usage": answer["usageMetadata"]}
        if call.faults.fault is CallFault.HANG_UP:
            call.end(None)
            return await no_answer(request)
        call.end(200)
        return Json(answer)


def _model(request: Request) -> str:
    model, _, method = request.path_params["model_and_method"].partition(":")
    version = request.path_params["version"]
    if version not in _VERSIONS or f":{method}" != _METHOD or model not in _MODELS:
        message = f"models/{model} is not found for API version {version}, or is not supported for {method}."
        raise GeminiError(404, "NOT_FOUND", message)
    return str(model)


def _check_key(request: Request) -> None:
    key = request.headers.get("x-goog-api-key")
    if not key:
        message = "Method doesn't allow unregistered callers (callers without established identity)."
        raise GeminiError(403, "PERMISSION_DENIED", message)
    if key != GEMINI_KEY:
        detail = {"@type": _REASON, "reason": "API_KEY_INVALID", "domain": "googleapis.com"}
        raise GeminiError(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", detail)


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError:
        raise GeminiError(400, "INVALID_ARGUMENT", "Invalid JSON payload received.") from None
    if not isinstance(body, dict) or not body.get("contents"):
        message = "* GenerateContentRequest.contents: contents is not specified\n"
        raise GeminiError(400, "INVALID_ARGUMENT", message)
    config = body.get("generationConfig", {})
    if "responseSchema" in config and "responseJsonSchema" in config:
        raise GeminiError(400, "INVALID_ARGUMENT", "Only one of response_schema and response_json_schema may be set.")
    return body


def _said(body: dict[str, Any]) -> str:
    parts = (part for content in body["contents"] for part in content.get("parts", []))
    return "\n".join(str(part.get("text", "")) for part in parts)


def _refuse(call: Call) -> None:
    match call.faults.fault:
        case CallFault.RATE_LIMITED:
            # Google says here how long to wait, and not in a Retry-After.
            detail = {"@type": _RETRY, "retryDelay": f"{call.faults.retry_after}s"}
            message = "You exceeded your current quota, please check your plan and billing details."
            raise GeminiError(429, "RESOURCE_EXHAUSTED", message, detail)
        case CallFault.SERVER_ERROR:
            raise GeminiError(500, "INTERNAL", "An internal error has occurred. Please retry.")
        case CallFault.UNAVAILABLE:
            raise GeminiError(503, "UNAVAILABLE", "The model is overloaded. Please try again later.")
        case CallFault.QUOTA:
            raise GeminiError(400, "FAILED_PRECONDITION", "Please enable billing on your project.")
        case CallFault.REJECT:
            # As the real one does, it repeats what it could not read.
            message = f"Invalid value at 'contents[0].parts[0].text' (TYPE_STRING), \"{call.text}\""
            raise GeminiError(400, "INVALID_ARGUMENT", message)


def _answer(call: Call, model: str) -> dict[str, Any]:
    config = call.input.get("generationConfig", {})
    asked = _tokens(call.text) + _tokens(json.dumps(call.input.get("systemInstruction", "")))
    frame = {"modelVersion": model, "responseId": secrets.token_urlsafe(12)}
    # What is blocked has no candidates at all.
    if call.faults.fault is CallFault.BLOCKED:
        usage = {"promptTokenCount": asked, "totalTokenCount": asked}
        return {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": usage, **frame}
    text, reason = _cut(_text(call, config), call, config)
    thinking = config.get("thinkingConfig", {})
    # Google reads both spellings; its SDK sends the second.
    thoughts = 0 if 0 in (thinking.get("thinkingBudget"), thinking.get("thinking_budget")) else _THOUGHTS
    answered = _tokens(text)
    candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "finishReason": reason, "index": 0}
    usage = {
        "promptTokenCount": asked,
        "candidatesTokenCount": answered,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": asked + answered + thoughts,
    }
    return {"candidates": [candidate], "usageMetadata": usage, **frame}


def _text(call: Call, config: dict[str, Any]) -> str:
    if call.faults.fault is CallFault.GARBAGE:
        return "Certainly! Here is the script you asked for."
    schema = config.get("responseJsonSchema") or config.get("responseSchema")
    return json.dumps(write(schema, call.text)) if schema else speak(call.text)


def _cut(text: str, call: Call, config: dict[str, Any]) -> tuple[str, str]:
    # JSON comes as text too, so that MAX_TOKENS cuts it anywhere.
    letters = int(config.get("maxOutputTokens", _DEFAULT_MAX_TOKENS)) * _LETTERS_PER_TOKEN
    if call.faults.fault is CallFault.CUT:
        letters = len(text) // 2
    return (text, "STOP") if len(text) <= letters else (text[:letters], "MAX_TOKENS")


def _tokens(text: str) -> int:
    return -(-len(text) // _LETTERS_PER_TOKEN)
