"""queue.fal.run and fal.run: submit, status, result, cancel, and the synchronous call."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from .answers import FalError, Json, account_of, ingress_error, key_of, no_answer, user_is_locked
from .book import Entry, Outcome, State
from .faults import Faults, SubmitFault, WebhookFault
from .lifecycle import OF_PREFERENCE, lifecycle_asked_for
from .logs import log_of
from .provider import Provider

# A client gives up on a submit after 30 s or more; an early webhook has this long to be answered.
_EARLY_WEBHOOK_SECONDS = 20
_MIN_START_TIMEOUT_SECONDS = 0.1
_STREAM_INTERVAL_SECONDS = 0.25


class QueueApi:
    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def routes(self) -> list[Route]:
        request = "/{app:path}/requests/{request_id}"
        return [
            Route(f"{request}/status", self.status, methods=["GET"]),
            Route(f"{request}/status/stream", self.status_stream, methods=["GET"]),
            Route(f"{request}/cancel", self.cancel, methods=["PUT"]),
            Route(f"{request}/response", self.result, methods=["GET"]),
            Route(request, self.result, methods=["GET"]),
            Route("/{endpoint:path}", self.submit, methods=["POST"]),
        ]

    async def submit(self, request: Request) -> Response:
        account = account_of(request)
        endpoint = _known_endpoint(request, self._provider)
        arguments = await _json_object(request)
        self._provider.refuse_if_locked(account)
        faults = self._provider.faults_for(endpoint, arguments)
        if request.headers.get("x-fal-no-retry", "").lower() in ("1", "true", "yes"):
            faults = _without_retries(faults)
        refusal = _refusal(faults)
        if refusal is not None:
            return refusal
        entry = self._provider.accept(
            account,
            endpoint=endpoint,
            arguments=arguments,
            faults=faults,
            key=key_of(request),
            webhook_url=request.query_params.get("fal_webhook"),
            start_timeout=_start_timeout(request),
            files=lifecycle_asked_for(request, OF_PREFERENCE),
        )
        if request.headers.get("x-fal-store-io") == "0":
            entry.payloads_kept = False
            self._provider.note(entry)
        return await self._answer_submit(request, entry)

    async def _answer_submit(self, request: Request, entry: Entry) -> Response:
        faults, taken = entry.faults, self._submitted(entry)
        if faults.submit is SubmitFault.CUT:
            return await no_answer(request)
        if faults.submit_delay:
            await asyncio.sleep(faults.submit_delay)
        if faults.webhook is WebhookFault.EARLY:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(entry.announced.wait(), _EARLY_WEBHOOK_SECONDS)
        return Json(taken, headers={"x-fal-request-id": entry.request_id})

    def _submitted(self, entry: Entry) -> dict[str, Any]:
        body: dict[str, Any] = {
            "status": "IN_QUEUE",
            **_links(entry),
            "logs": None,
            "metrics": {},
            "queue_position": self._provider.line(entry.account).position(entry),
        }
        return {**body, "gateway_request_id": entry.gateway_request_id} if entry.webhook_url else body

    async def status(self, request: Request) -> Response:
        entry = self._entry(request)
        return Json(
            self._status(entry, with_logs=_with_logs(request)),
            status_code=200 if entry.state is State.COMPLETED else 202,
            headers={"x-fal-request-id": entry.request_id},
        )

    async def status_stream(self, request: Request) -> Response:
        entry = self._entry(request)
        return StreamingResponse(self._events(entry, _with_logs(request)), media_type="text/event-stream")

    async def _events(self, entry: Entry, with_logs: bool) -> AsyncIterator[str]:
        while True:
            state = entry.state
            yield f"data: {json.dumps(self._status(entry, with_logs=with_logs))}\n\n"
            if state is State.COMPLETED:
                return
            await asyncio.sleep(_STREAM_INTERVAL_SECONDS)

    def _status(self, entry: Entry, *, with_logs: bool) -> dict[str, Any]:
        body: dict[str, Any] = {"status": entry.state.value, **_links(entry)}
        if entry.state is State.IN_QUEUE:
            return {**body, "queue_position": self._provider.line(entry.account).position(entry)}
        body["logs"] = log_of(entry, training=self._trains(entry)) if with_logs else None
        if entry.outcome is None:
            return body
        return {**body, "metrics": {"inference_time": entry.inference_seconds}, **_error_words(entry.outcome)}

    def _trains(self, entry: Entry) -> bool:
        endpoint = self._provider.catalogue.endpoints.get(entry.endpoint)
        return endpoint is not None and endpoint.trains

    async def result(self, request: Request) -> Response:
        entry = self._entry(request)
        if entry.payloads_deleted:
            raise FalError(404, {"status": "NOT_FOUND"})
        if entry.outcome is None:
            raise FalError(400, {"detail": "Request is still in progress", **_links(entry)})
        entry.result_reads += 1
        if entry.faults.result == "504_once" and entry.result_reads == 1:
            return _result_is_late(entry)
        return _result_response(entry, entry.outcome)

    async def cancel(self, request: Request) -> Response:
        entry = self._entry(request)
        if self._provider.cancel(entry):
            # Assumed: which of the documented answers belongs to which state.
            if entry.state is State.COMPLETED:
                return Json({"status": "OK"})
            return Json({"status": "CANCELLATION_REQUESTED"}, status_code=202)
        raise FalError(400, {"status": "ALREADY_COMPLETED"})

    def _entry(self, request: Request) -> Entry:
        """Only the account that submitted a request sees it, under its own app (short or long form)."""
        account = account_of(request)
        entry = self._provider.book.get(request.path_params["request_id"])
        if entry is None or entry.account is not account or not _is_app_of(request.path_params["app"], entry.endpoint):
            raise FalError(404, {"status": "NOT_FOUND"})
        return entry


class RunApi:
    """The synchronous call does not queue: beyond the account's limit it is refused."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def routes(self) -> list[Route]:
        return [Route("/{endpoint:path}", self.run, methods=["POST"])]

    async def run(self, request: Request) -> Response:
        account = account_of(request)
        endpoint = _known_endpoint(request, self._provider)
        arguments = await _json_object(request)
        self._provider.refuse_if_locked(account)
        if self._provider.line(account).is_full:
            raise _too_many_at_once(self._provider.line(account).slots)
        faults = _without_retries(self._provider.faults_for(endpoint, arguments))
        entry = self._provider.accept(
            account,
            endpoint=endpoint,
            arguments=arguments,
            faults=faults,
            key=key_of(request),
            files=lifecycle_asked_for(request, OF_PREFERENCE),
        )
        await entry.finished.wait()
        assert entry.outcome is not None
        return _result_response(entry, entry.outcome)


def _known_endpoint(request: Request, provider: Provider) -> str:
    endpoint = str(request.path_params["endpoint"]).strip("/")
    if provider.catalogue.card(endpoint) is None:
        raise FalError(404, {"detail": f"Application '{_app(endpoint)}' not found"})
    return endpoint


async def _json_object(request: Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise FalError(400, {"detail": "The request body must be a JSON object", "error_type": "bad_request"})
    return body


def _without_retries(faults: Faults) -> Faults:
    """Return the same for a request that is not tried again: what would have been the first of its tries is its end."""
    return faults.model_copy(update={"retries": 0, "result": "error:runner_disconnected"}) if faults.retries else faults


def _refusal(faults: Faults) -> Response | None:
    if faults.submit is SubmitFault.RATE_LIMITED:
        raise FalError(429, {"detail": "Too many requests"}, {"retry-after": str(faults.retry_after)})
    if faults.submit is SubmitFault.SERVER_ERROR:
        body = {"detail": "Internal server error", "error_type": "internal_error"}
        raise FalError(500, body, {"x-fal-error-type": "internal_error"})
    if faults.submit is SubmitFault.LOCKED:
        raise user_is_locked()
    return ingress_error() if faults.submit is SubmitFault.INGRESS_ERROR else None


def _too_many_at_once(limit: int) -> FalError:
    body = {
        "detail": f"Reached concurrent requests limit of {limit}",
        "type": "concurrent_requests_limit",
        "data": {"limit": limit},
    }
    return FalError(429, body, {"x-fal-needs-retry": "1"})


def _start_timeout(request: Request) -> float | None:
    value = request.headers.get("x-fal-request-timeout")
    try:
        return max(float(value), _MIN_START_TIMEOUT_SECONDS) if value else None
    except ValueError:
        raise FalError(400, {"detail": "X-Fal-Request-Timeout must be a number of seconds"}) from None


def _result_response(entry: Entry, outcome: Outcome) -> Response:
    headers = {"x-fal-request-id": entry.request_id}
    if entry.faults.units_header:
        headers["x-fal-billable-units"] = outcome.billable_units
    if outcome.error_type:
        headers["x-fal-error-type"] = outcome.error_type
    if outcome.error_type == "request_timeout":
        headers["x-fal-request-timeout-type"] = "user"
    return Json(outcome.body, status_code=outcome.http_status, headers=headers)


def _result_is_late(entry: Entry) -> Response:
    body = {"detail": "Timed out while fetching the result"}
    return Json(body, status_code=504, headers={"x-fal-request-id": entry.request_id})


def _error_words(outcome: Outcome) -> dict[str, str]:
    """Platform failures show in the status; a model's own rejection has been seen without any trace there."""
    if outcome.error_type is None:
        return {}
    return {"error": str(outcome.body["detail"]), "error_type": outcome.error_type}


def _links(entry: Entry) -> dict[str, str]:
    base = f"https://queue.fal.run/{_app(entry.endpoint)}/requests/{entry.request_id}"
    return {
        "request_id": entry.request_id,
        "response_url": base,
        "status_url": f"{base}/status",
        "cancel_url": f"{base}/cancel",
    }


def _app(endpoint: str) -> str:
    return "/".join(endpoint.split("/")[:2])


def _is_app_of(app: str, endpoint: str) -> bool:
    return app in (endpoint, _app(endpoint))


def _with_logs(request: Request) -> bool:
    return request.query_params.get("logs", "").lower() in ("1", "true")
