"""The operators' side, plain HTTP on the same port: set rules, read the book, decide outcomes, shut the doors.

POST   /_sim/rules                    a rule (see faults.py) → {"id"}; GET lists them
    DELETE /_sim/rules[/{id}]             takes all away, or one
GET    /_sim/requests[?match=…]       the book; /_sim/requests/{id} one of it
GET    /_sim/uploads[?match=…]        what clients uploaded, and how long it lives; by a part of the address
POST   /_sim/requests/{id}/release    lets a held request finish; a body of fault fields changes its end
GET    /_sim/stats                    counts, and the most that was ever in progress, or open, at once
POST   /_sim/webhook                  sends any webhook: {url, body, sign?, user_id?, request_id?, timestamp_offset?}
POST   /_sim/outage                   {seconds, mode?: "nginx" | "refuse"}; 0 seconds ends it
POST   /_sim/rotate                   a new signing key; the old one stays published
GET    /_sim/health                   200 when it runs
       /_sim/calls…                   the other providers: see calls_api.py
       /_sim/models, /_sim/platform … models, prices, bills and limits: see platform/operator.py
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .answers import Json
from .book import Entry
from .cdn import Upload
from .faults import Faults, Rule
from .outage import OutageMode
from .provider import Provider
from .signing import signed_headers

Order = TypeVar("Order", bound=BaseModel)


class _OutageOrder(BaseModel):
    model_config = ConfigDict(extra="forbid")

    seconds: float = Field(ge=0)
    mode: OutageMode = OutageMode.NGINX


class _WebhookOrder(BaseModel):
    model_config = ConfigDict(extra="forbid")

    url: str
    body: Any
    sign: bool = True
    user_id: str = "sim-user"
    request_id: str | None = Field(None, description="Of the header. Unset: the body's.")
    timestamp_offset: int = Field(0, description="Seconds; negative is the past.")


class OperatorApi:
    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def routes(self) -> list[Route]:
        return [
            Route("/_sim/health", self.health, methods=["GET"]),
            Route("/_sim/rules", self.rules, methods=["GET"]),
            Route("/_sim/rules", self.add_rule, methods=["POST"]),
            Route("/_sim/rules", self.clear_rules, methods=["DELETE"]),
            Route("/_sim/rules/{rule_id:int}", self.remove_rule, methods=["DELETE"]),
            Route("/_sim/requests", self.requests, methods=["GET"]),
            Route("/_sim/requests/{request_id}", self.request, methods=["GET"]),
            Route("/_sim/requests/{request_id}/release", self.release, methods=["POST"]),
            Route("/_sim/uploads", self.uploads, methods=["GET"]),
            Route("/_sim/stats", self.stats, methods=["GET"]),
            Route("/_sim/webhook", self.send_webhook, methods=["POST"]),
            Route("/_sim/outage", self.outage, methods=["POST"]),
            Route("/_sim/rotate", self.rotate, methods=["POST"]),
        ]

    async def health(self, _: Request) -> Response:
        return Json({"status": "ok"})

    async def rules(self, _: Request) -> Response:
        listing = self._provider.rules.listing()
        return Json([{"id": rule_id, **rule.model_dump(mode="json")} for rule_id, rule in listing.items()])

    async def add_rule(self, request: Request) -> Response:
        return Json({"id": self._provider.rules.add(await _order(request, Rule))}, status_code=201)

    async def clear_rules(self, _: Request) -> Response:
        self._provider.rules.clear()
        self._provider.others.calls.clear()
        return Response(status_code=204)

    async def remove_rule(self, request: Request) -> Response:
        if not self._provider.rules.remove(request.path_params["rule_id"]):
            raise HTTPException(404, "No such rule")
        return Response(status_code=204)

    async def requests(self, request: Request) -> Response:
        match = request.query_params.get("match", "")
        entries = self._provider.book.entries()
        return Json([_row(entry) for entry in entries if match in entry.text])

    async def request(self, request: Request) -> Response:
        return Json(_row(self._entry(request)))

    async def release(self, request: Request) -> Response:
        entry = self._entry(request)
        changes = await _order(request, Faults) if await request.body() else Faults()
        entry.faults = entry.faults.model_copy(update=changes.model_dump(exclude_unset=True))
        entry.released.set()
        return Json(_row(entry))

    async def uploads(self, request: Request) -> Response:
        match = request.query_params.get("match", "")
        return Json([_upload_row(upload) for upload in self._provider.cdn.uploads if match in upload.url])

    async def stats(self, _: Request) -> Response:
        return Json(self._provider.stats())

    async def send_webhook(self, request: Request) -> Response:
        order = await _order(request, _WebhookOrder)
        body = json.dumps(order.body).encode()
        headers = self._headers(order, body) if order.sign else {}
        delivery = await self._provider.sender.post(order.url, body=body, headers=headers, kind="operator")
        return Json({"status_code": delivery.status_code, "error": delivery.error})

    def _headers(self, order: _WebhookOrder, body: bytes) -> dict[str, str]:
        named = order.body.get("request_id") if isinstance(order.body, dict) else None
        return signed_headers(
            body,
            key=self._provider.keys.current,
            request_id=order.request_id or str(named or ""),
            user_id=order.user_id,
            timestamp=int(time.time()) + order.timestamp_offset,
        )

    async def outage(self, request: Request) -> Response:
        order = await _order(request, _OutageOrder)
        self._provider.outage.begin(order.seconds, mode=order.mode)
        return Response(status_code=204)

    async def rotate(self, _: Request) -> Response:
        self._provider.keys.rotate()
        return Json(self._provider.keys.jwks())

    def _entry(self, request: Request) -> Entry:
        entry = self._provider.book.get(request.path_params["request_id"])
        if entry is None:
            raise HTTPException(404, "No such request")
        return entry


async def _order(request: Request, kind: type[Order]) -> Order:
    try:
        return kind.model_validate_json(await request.body())
    except ValidationError as error:
        raise HTTPException(422, str(error)) from error


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "request_id": entry.request_id,
        "gateway_request_id": entry.gateway_request_id,
        "endpoint": entry.endpoint,
        "input": entry.input,
        "files_read": entry.files_read,
        "account": entry.account.user_id,
        "webhook_url": entry.webhook_url,
        "status": entry.state.value,
        "http_status": entry.outcome and entry.outcome.http_status,
        "billable_units": entry.outcome and entry.outcome.billable_units,
        "cancel_requested": entry.cancel_requested,
        "faults": entry.faults.model_dump(mode="json", exclude_defaults=True),
        "submitted_at": entry.submitted_at.isoformat(),
        "started_at": entry.started_at and entry.started_at.isoformat(),
        "finished_at": entry.finished_at and entry.finished_at.isoformat(),
        "webhooks": [{**asdict(delivery), "at": delivery.at.isoformat()} for delivery in entry.deliveries],
    }


def _upload_row(upload: Upload) -> dict[str, Any]:
    return {
        "url": upload.url,
        "content_type": upload.content_type,
        "bytes": upload.size_bytes,
        "sha256": upload.sha256,
        "uploaded_at": upload.at.isoformat(),
        "lifetime_seconds": upload.lifetime_seconds,
        "expires_at": upload.expires_at and upload.expires_at.isoformat(),
    }
