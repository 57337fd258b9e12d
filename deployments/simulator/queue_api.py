"""queue.fal.run and fal.run: submit, status, result, cancel, and the synchronous call."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from .answers import FalError, Json, account_of, ingress_error, json_object, key_of, no_answer, user_is_locked
from .book import Entry, Outcome, State
from .cards.card import Card
from .faults import Faults, SubmitFault, WebhookFault
from .lifecycle import OF_PREFERENCE, lifecycle_asked_for
from .logs import log_of
from .provider import Provider

# A client gives up on a submit after 30 s or more; an early webhook has this long to be answered.
_EARLY_WEBHOOK_SECONDS = 20
_MIN_START_TIMEOUT_SECONDS = 0.1  # by fal's page of platform headers
_STREAM_INTERVAL_SECONDS = 0.25
_NAMESPACES = ("workflows", "comfy")


class QueueApi:
    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def routes(self) -> list[Route]:
        # fal's own URLs name owner and alias only; its pages also show the endpoint's whole path. Both are served.
        request = "/{app:path}/requests/{request_id}"
        return [
            Route(f"{request}/status", self.status, methods=["GET"]),
            Route(f"{request}/status/stream", self.status_stream, methods=["GET"]),
            Route(f"{request}/cancel", self.cancel, methods=["PUT"]),
            Route(f"{request}/response", self.result, methods=["GET"]),  # documented beside the shorter form
            Route(request, self.result, methods=["GET"]),
            Route("/{endpoint:path}", self.submit, methods=["POST"]),
        ]

    async def submit(self, request: Request) -> Response:
        account = account_of(request)
        endpoint = _known_endpoint(request, self._provider)
        arguments = await json_object(request)
        # fal refuses these before anything is queued.
        self._provider.refuse_if_locked(account)
        faults = self._provider.faults_for(endpoint, arguments)
        # The three spellings of fal's page of headers.
        if request.headers.get("x-fal-no-retry", "").lower() in ("1", "true", "yes"):
            faults = _without_retries(faults)
        refusal = _refusal(faults)
        if refusal is not None:
            return refusal
        # fal does not look at the input here: what is wrong with it is a 422 result later.
        entry = self._provider.accept(
            account,
            endpoint=endpoint,
            arguments=arguments,
            faults=faults,
            key=key_of(request),
            webhook_url=request.query_params.get("fal_webhook"),
            start_timeout=_start_timeout(request),
            files=lifecycle_asked_for(request, OF_PREFERENCE),
            payloads_kept=_payloads_kept(request),
        )
        return await self._answer_submit(request, entry)

    async def _answer_submit(self, request: Request, entry: Entry) -> Response:
        # Now: while the answer waits below, another try of the request may change the gateway's id.
        faults, taken = entry.faults, self._submitted(entry)
        # The request is in the queue, and the client does not learn its id: fal has no idempotency key to ask again by.
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
        # By fal's page of webhooks: who asked for one is told the id of the try as well.
        return {**body, "gateway_request_id": entry.gateway_request_id} if entry.webhook_url else body

    async def status(self, request: Request) -> Response:
        entry = self._entry(request)
        # 202 until it is over, by fal's page of the queue; the OpenAPI documents of its models say 200 for all.
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
            # Before the yield: what ends while a slow reader takes this event is told by another one.
            state = entry.state
            yield f"data: {json.dumps(self._status(entry, with_logs=with_logs))}\n\n"
            if state is State.COMPLETED:
                return
            await asyncio.sleep(_STREAM_INTERVAL_SECONDS)

    def _status(self, entry: Entry, *, with_logs: bool) -> dict[str, Any]:
        body: dict[str, Any] = {"status": entry.state.value, **_links(entry)}
        # fal's client reads `queue_position`, and later `logs`, without asking whether they are there.
        if entry.state is State.IN_QUEUE:
            return {**body, "queue_position": self._provider.line(entry.account).position(entry)}
        body["logs"] = log_of(entry, trainer=self._trainer(entry)) if with_logs else None
        if entry.outcome is None:
            return body
        return {**body, "metrics": {"inference_time": entry.inference_seconds}, **_error_words(entry.outcome)}

    def _trainer(self, entry: Entry) -> Card | None:
        """Return the endpoint's card if it trains."""
        endpoint = self._provider.catalogue.endpoints.get(entry.endpoint)
        return endpoint.card if endpoint is not None and endpoint.trains else None

    async def result(self, request: Request) -> Response:
        entry = self._entry(request)
        # Assumed: what was erased is answered like what never was.
        if entry.payloads_deleted:
            raise FalError(404, {"status": "NOT_FOUND"})
        # No page of fal's states the code; other clients' code expects this one.
        if entry.outcome is None:
            raise FalError(400, {"detail": "Request is still in progress", **_links(entry)})
        # Seen at fal: a request was COMPLETED, the fetch of its result a 504, and the next one a success.
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
        """Return the request. Raise FalError where the caller has none of that id."""
        account = account_of(request)
        entry = self._provider.book.get(request.path_params["request_id"])
        # Only to the account that submitted it, under its own app: fal has no look-up by the id alone.
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
        arguments = await json_object(request)
        self._provider.refuse_if_locked(account)
        if self._provider.line(account).is_full:
            raise _too_many_at_once(self._provider.line(account).slots)
        faults = self._provider.faults_for(endpoint, arguments)
        if (refusal := _refusal(faults)) is not None:
            return refusal
        # fal's queue tries again where a runner is lost; the synchronous call never does.
        faults = _without_retries(faults)
        entry = self._provider.accept(
            account,
            endpoint=endpoint,
            arguments=arguments,
            faults=faults,
            key=key_of(request),
            files=lifecycle_asked_for(request, OF_PREFERENCE),
            payloads_kept=_payloads_kept(request),
        )
        if faults.submit is SubmitFault.CUT:
            return await no_answer(request)
        await entry.finished.wait()
        assert entry.outcome is not None
        return _result_response(entry, entry.outcome)


def _known_endpoint(request: Request, provider: Provider) -> str:
    endpoint = str(request.path_params["endpoint"]).strip("/")
    if provider.catalogue.card(endpoint) is None:
        raise FalError(404, {"detail": f"Application '{_app(endpoint)}' not found"})
    return endpoint


def _without_retries(faults: Faults) -> Faults:
    """Return the same for a request that is not tried again: what would have been the first of its tries is its end."""
    return faults.model_copy(update={"retries": 0, "result": "error:runner_disconnected"}) if faults.retries else faults


def _refusal(faults: Faults) -> Response | None:
    # fal documents no limit for submits; a client has to bear one all the same.
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
    # Body and header as they have been seen at fal: the header asks clients to come again.
    return FalError(429, body, {"x-fal-needs-retry": "1"})


def _start_timeout(request: Request) -> float | None:
    value = request.headers.get("x-fal-request-timeout")
    try:
        seconds = max(float(value), _MIN_START_TIMEOUT_SECONDS) if value else None
        _ = datetime.now(UTC) + timedelta(seconds=seconds or 0)  # raises for what is no number, and beyond all time
    except (ValueError, OverflowError):
        raise FalError(400, {"detail": "X-Fal-Request-Timeout must be a number of seconds"}) from None
    return seconds


def _payloads_kept(request: Request) -> bool:
    # fal keeps no JSON of such a request; its files are unaffected.
    return request.headers.get("x-fal-store-io") != "0"


def _result_response(entry: Entry, outcome: Outcome) -> Response:
    headers = {"x-fal-request-id": entry.request_id}
    # fal tells the units with the result alone, not in the webhook, and of some endpoints not even here.
    if entry.faults.units_header:
        headers["x-fal-billable-units"] = outcome.billable_units
    if outcome.error_type:
        headers["x-fal-error-type"] = outcome.error_type
    # Whose time-out it was: fal's client does not repeat what has ended by the caller's own.
    if outcome.error_type == "request_timeout":
        headers["x-fal-request-timeout-type"] = "user"
    return Json(outcome.body, status_code=outcome.http_status, headers=headers)


def _result_is_late(entry: Entry) -> Response:
    body = {"detail": "Timed out while fetching the result"}
    return Json(body, status_code=504, headers={"x-fal-request-id": entry.request_id})


def _error_words(outcome: Outcome) -> dict[str, str]:
    """Return what the status tells of a failure."""
    # A model's own rejection has been seen COMPLETED without any trace of it: the result GET alone shows it.
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
    """Return owner and alias. Workflows and Comfy's graphs keep the first word, which names their kind."""
    parts = endpoint.split("/")
    return "/".join(parts[: 3 if parts[0] in _NAMESPACES else 2])


def _is_app_of(app: str, endpoint: str) -> bool:
    return app in (endpoint, _app(endpoint))


def _with_logs(request: Request) -> bool:
    return request.query_params.get("logs", "").lower() in ("1", "true")
