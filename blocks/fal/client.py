"""fal's queue: submit, status, result, cancel, upload.

Submitting is one plain POST of our own, because fal has no idempotency key and `fal_client.submit` repeats a POST whose
answer was lost (up to ten billed jobs). Status, result and cancel use `fal_client`'s handles for where to call, but not
for calling: their patience is ten tries of 120 s, fixed in the module, and `get()` polls ten times a second and drops
the header with the billed units. Uploads are `fal_client`'s alone. Failures are translated in `failures.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from functools import cached_property
from types import TracebackType
from typing import Any, Literal

import fal_client
import fal_client.client as fal_client_module
import httpx

from blocks.errors import DarkroomError, Park, Permanent, Retry, SubmitUnknown
from blocks.fal.failures import classify_failure, is_ingress_page
from blocks.fal.http import tls_context

SUBMIT_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
CONFIRM_TIMEOUT = httpx.Timeout(5.0, connect=3.0)
CALL_TIMEOUT = httpx.Timeout(4.0, connect=3.0)  # two tries come to 14 s at most
UPLOAD_TIMEOUT_SECONDS = 30.0

# Nothing of the request has left when these are raised. Every other transport error may have come after fal read it.
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, httpx.PoolTimeout)
REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")

STATES = frozenset({"IN_QUEUE", "IN_PROGRESS", "COMPLETED"})
State = Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "NOT_FOUND"]
Cancelled = Literal["requested", "already_completed", "not_found"]


@dataclass(frozen=True, kw_only=True)
class Submitted:
    request_id: str
    gateway_request_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class ProviderStatus:
    """COMPLETED says only that it is over: whether it went well is told by `Fal.result` alone."""

    state: State
    queue_position: int | None = None
    logs: tuple[Mapping[str, Any], ...] = ()
    error: str | None = None
    error_type: str | None = None


@dataclass(frozen=True, kw_only=True)
class ProviderResult:
    output: dict[str, Any]
    billable_units: Decimal | None


class Fal:
    """One account's client. Thread-safe; `transport` is the seam for tests."""

    def __init__(self, key: str, *, transport: httpx.BaseTransport | None = None) -> None:
        # A key pasted with its line end would make every request an illegal one.
        self._key = key.strip()
        self._http = httpx.Client(
            headers={"Authorization": f"Key {self._key}", "User-Agent": fal_client_module.USER_AGENT},
            timeout=SUBMIT_TIMEOUT,
            transport=transport,
            verify=tls_context(),
        )

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Fal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def submit(
        self, endpoint: str, arguments: Mapping[str, Any], *, webhook_url: str | None, start_timeout: timedelta
    ) -> Submitted:
        """Exactly one POST. Raises SubmitUnknown unless the job was surely made or surely refused."""
        try:
            response = self._http.post(
                fal_client_module.QUEUE_URL_FORMAT + endpoint,
                params={"fal_webhook": webhook_url} if webhook_url else None,
                json=arguments,
                headers={"X-Fal-Request-Timeout": str(start_timeout.total_seconds())},
            )
        except NOT_SENT as error:
            raise _transport_failure(error) from error
        except httpx.HTTPError as error:
            raise SubmitUnknown(f"the answer to the submit was lost ({type(error).__name__})") from error
        return _read_submit_answer(response)

    def status(self, endpoint: str, request_id: str) -> ProviderStatus:
        response = self._call("GET", self._handle(endpoint, request_id).status_url, params={"logs": "1"})
        if _says_not_found(response):
            return ProviderStatus(state="NOT_FOUND")
        body = _json(response)
        if response.status_code not in (200, 202) or not isinstance(body, dict):
            raise _answer_failure(response)
        return _read_status(body)

    def result(self, endpoint: str, request_id: str) -> ProviderResult:
        """The output of a finished request.

        Raises Permanent for a rejected generation, Retry for one that may be submitted again or a GET to be repeated
        (`is_outcome` tells which), Retry(code="in_progress") while it runs, Permanent(code="not_found").
        """
        response = self._call("GET", self._handle(endpoint, request_id).response_url)
        output = _json(response)
        if response.status_code != 200 or not isinstance(output, dict):
            raise _answer_failure(response)
        return ProviderResult(output=output, billable_units=_units(response.headers.get("x-fal-billable-units")))

    def cancel(self, endpoint: str, request_id: str) -> Cancelled:
        """Asks fal to cancel. A request that already runs usually goes on, and is billed."""
        response = self._call("PUT", self._handle(endpoint, request_id).cancel_url)
        if response.is_success:
            return "requested"
        if _says_not_found(response):
            return "not_found"
        if _field(_json(response), "status") == "ALREADY_COMPLETED":
            return "already_completed"
        raise _answer_failure(response)

    def confirm(self, endpoint: str, request_id: str) -> bool:
        """Whether the request is this account's: one GET, for a caller who has a webhook's sender waiting."""
        try:
            response = self._http.get(self._handle(endpoint, request_id).status_url, timeout=CONFIRM_TIMEOUT)
        except httpx.HTTPError as error:
            raise _transport_failure(error) from error
        if response.status_code in (200, 202) and _field(_json(response), "status") in STATES:
            return True
        if _says_not_found(response):
            return False
        failure = _answer_failure(response)
        # Not even a refused key may turn the sender away for good: it is asked to come again.
        raise failure if isinstance(failure, Retry | Park) else Retry(failure.message, code=failure.code)

    def upload(self, content: bytes, *, content_type: str, file_name: str) -> str:
        """Puts a file on fal's CDN and returns its URL, which is public. fal_client repeats it, for up to a minute."""
        try:
            return self._uploader.upload(content, content_type, file_name)
        except fal_client.FalClientHTTPError as error:
            # Not `from error`: its text is the whole answer, and may quote what was sent.
            raise _answer_failure(error.response) from None
        except httpx.HTTPStatusError as error:
            raise _answer_failure(error.response) from error
        except httpx.HTTPError as error:
            raise _transport_failure(error) from error

    @cached_property
    def _uploader(self) -> fal_client.SyncClient:
        return fal_client.SyncClient(key=self._key, default_timeout=UPLOAD_TIMEOUT_SECONDS)

    def _handle(self, endpoint: str, request_id: str) -> fal_client.SyncRequestHandle:
        """fal_client's knowledge of where a request's three addresses are."""
        if not REQUEST_ID.fullmatch(request_id):
            raise Permanent("that is not a request id of fal's", code="not_found")
        return fal_client.SyncRequestHandle.from_request_id(self._http, endpoint, request_id)

    def _call(self, method: str, url: str, *, params: Mapping[str, str] | None = None) -> httpx.Response:
        """Once more after a transport error: a connection the server had just closed is not worth a failure."""
        try:
            return self._http.request(method, url, params=params, timeout=CALL_TIMEOUT)
        except httpx.TransportError:
            pass
        try:
            return self._http.request(method, url, params=params, timeout=CALL_TIMEOUT)
        except httpx.HTTPError as error:
            raise _transport_failure(error) from error


def _read_submit_answer(response: httpx.Response) -> Submitted:
    body = _json(response)
    request_id = _field(body, "request_id")
    if response.is_success and request_id and REQUEST_ID.fullmatch(request_id):
        return Submitted(request_id=request_id, gateway_request_id=_field(body, "gateway_request_id"))
    if _surely_refused(response, body):
        raise _answer_failure(response)
    raise SubmitUnknown(f"fal answered the submit with HTTP {response.status_code} and no request id")


def _surely_refused(response: httpx.Response, body: object) -> bool:
    """A 502 or 504 page of the nginx is no refusal: the queue behind it may have taken the job."""
    if response.is_client_error or (response.is_server_error and "x-fal-request-id" in response.headers):
        return True
    return response.status_code == 503 and is_ingress_page(503, body, response.headers)


def _read_status(body: Mapping[str, Any]) -> ProviderStatus:
    state, logs, position = body.get("status"), body.get("logs"), body.get("queue_position")
    if state not in STATES:
        raise Retry("fal's queue speaks of a state that is not documented", code="unexpected_answer")
    return ProviderStatus(
        state=state,
        queue_position=position if isinstance(position, int) else None,
        logs=tuple(line for line in logs if isinstance(line, dict)) if isinstance(logs, list) else (),
        error=_field(body, "error"),
        error_type=_field(body, "error_type"),
    )


def _answer_failure(response: httpx.Response) -> DarkroomError:
    return classify_failure(http_status=response.status_code, body=_json(response), headers=response.headers)


def _transport_failure(error: httpx.HTTPError) -> DarkroomError:
    if isinstance(error, httpx.PoolTimeout):
        return Retry("too many calls to fal at once from this process", code="transient")
    if isinstance(error, NOT_SENT):
        return Park(f"fal cannot be reached ({type(error).__name__})", code="unreachable")
    return Retry(f"the connection to fal broke ({type(error).__name__})")


def _json(response: httpx.Response) -> object:
    try:
        return response.json()
    except ValueError:
        return response.text


def _field(body: object, name: str) -> str | None:
    value = body.get(name) if isinstance(body, dict) else None
    return value if isinstance(value, str) else None


def _says_not_found(response: httpx.Response) -> bool:
    """The queue's own 404. A page of something in between proves nothing about the request."""
    return response.status_code == 404 and isinstance(_json(response), dict)


def _units(value: str | None) -> Decimal | None:
    try:
        units = Decimal(value or "")
    except InvalidOperation:
        return None
    return units if units.is_finite() and units >= 0 else None
