"""The ways a request can end other than well, in fal's words.

Two families: a model's own rejection is `{"detail": [{loc, msg, type, …}]}`, the platform's failures are
`{"detail": "text", "error_type": …}`.
"""

from __future__ import annotations

from typing import Any

from .book import Entry, Outcome

# The table of fal's page of request errors.
_PLATFORM_STATUS = {
    "request_timeout": 504,
    "startup_timeout": 504,
    "runner_scheduling_failure": 503,
    "runner_connection_timeout": 503,
    "runner_disconnected": 503,
    "runner_connection_refused": 503,
    "runner_connection_error": 503,
    "runner_incomplete_response": 502,
    "runner_server_error": 500,
    "internal_error": 500,
    "client_disconnected": 499,
    "client_cancelled": 499,
    "bad_request": 400,
}
# That of its page of model errors, where all other types are a 422.
_MODEL_STATUS = {
    "internal_server_error": 500,
    "generation_timeout": 504,
    "downstream_service_error": 500,
    "downstream_service_unavailable": 500,
}
Place = tuple[str | int, ...]


class Rejection(Exception):
    """A model does not accept what it was given: `place` in the input is wrong, in the way that `error_type` names."""

    def __init__(
        self,
        error_type: str,
        *,
        place: Place,
        given: Any,
        context: dict[str, Any] | None = None,
        message: str | None = None,
    ) -> None:
        super().__init__(error_type)
        self.detail = {
            "loc": ["body", *place],
            "msg": message or _message(error_type),
            "type": error_type,
            "url": _documentation(error_type),
            **({"ctx": context} if context else {}),
            "input": given,
        }


_MESSAGES = {
    "content_policy_violation": "The content could not be processed because it contained material flagged by a "
    "content checker.",
    "internal_server_error": "Internal server error",
    "generation_timeout": "Generation timed out.",
    "no_media_generated": "No media was generated. Try a different prompt.",
    "request_timeout": "The request did not start within its time-out.",
    "client_cancelled": "Request was cancelled by the client.",
    "invalid_archive": "Could not read or process the provided archive. Ensure it's a valid, non-corrupted archive.",
}


def failure(error_type: str, entry: Entry) -> Outcome:
    if error_type in _PLATFORM_STATUS:
        return platform_failure(error_type)
    return model_rejection([_detail(error_type, entry)], http_status=_MODEL_STATUS.get(error_type, 422))


def platform_failure(error_type: str) -> Outcome:
    detail = _message(error_type)
    body = {"detail": detail, "error_type": error_type}
    return Outcome(http_status=_PLATFORM_STATUS[error_type], body=body, error_type=error_type)


def model_rejection(detail: list[dict[str, Any]], *, http_status: int = 422) -> Outcome:
    return Outcome(http_status=http_status, body={"detail": detail})


def _detail(error_type: str, entry: Entry) -> dict[str, Any]:
    """Return what a model says of an input that it rejects."""
    return {
        "loc": ["body", "prompt"],
        "msg": _message(error_type),
        "type": error_type,
        "url": _documentation(error_type),
        # All that the caller sent, prompt and all, as the real one echoes it: clients that log errors log it too.
        "input": entry.input,
    }


def _message(error_type: str) -> str:
    return _MESSAGES.get(error_type, error_type.replace("_", " ").capitalize())


def _documentation(error_type: str) -> str:
    return f"https://docs.fal.ai/errors/#{error_type}"
