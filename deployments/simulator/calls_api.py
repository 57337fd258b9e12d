"""The operators' side of the other providers, under `/_sim/calls`.

POST   /_sim/calls/rules          a rule (see calls.py) → {"id"}; GET lists them
DELETE /_sim/calls/rules          takes all away, and lets what is held go on; so does DELETE /_sim/rules
GET    /_sim/calls                the book, oldest first; ?provider=, ?operation=, ?match= (a part of what was said)
POST   /_sim/calls/{id}/release   lets a held call go on
PUT    /_sim/mux/webhook          {url}: where Mux' webhooks go from now on; null: nowhere
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .answers import Json
from .calls import Call, CallRule, Calls
from .mux_assets import Announcer


class CallsApi:
    def __init__(self, calls: Calls, announcer: Announcer) -> None:
        self._calls = calls
        self._announcer = announcer

    def routes(self) -> list[Route]:
        return [
            Route("/_sim/calls/rules", self.rules, methods=["GET"]),
            Route("/_sim/calls/rules", self.add_rule, methods=["POST"]),
            Route("/_sim/calls/rules", self.clear_rules, methods=["DELETE"]),
            Route("/_sim/calls", self.calls, methods=["GET"]),
            Route("/_sim/calls/{call_id}/release", self.release, methods=["POST"]),
            Route("/_sim/mux/webhook", self.set_webhook, methods=["PUT"]),
        ]

    async def rules(self, _: Request) -> Response:
        return Json([{"id": rule_id, **rule.model_dump()} for rule_id, rule in self._calls.rules().items()])

    async def add_rule(self, request: Request) -> Response:
        try:
            rule = CallRule.model_validate_json(await request.body())
        except ValidationError as error:
            raise HTTPException(422, str(error)) from error
        return Json({"id": self._calls.add_rule(rule)}, status_code=201)

    async def clear_rules(self, _: Request) -> Response:
        self._calls.clear()
        return Response(status_code=204)

    async def calls(self, request: Request) -> Response:
        query = request.query_params
        return Json(
            [
                _row(call)
                for call in self._calls.all()
                if query.get("provider") in (None, call.provider.value)
                and query.get("operation") in (None, call.operation)
                and query.get("match", "") in call.text
            ]
        )

    async def release(self, request: Request) -> Response:
        call = self._calls.get(request.path_params["call_id"])
        if call is None:
            raise HTTPException(404, "No such call")
        call.released.set()
        return Json(_row(call))

    async def set_webhook(self, request: Request) -> Response:
        self._announcer.url = (await request.json())["url"]
        return Response(status_code=204)


def _row(call: Call) -> dict[str, Any]:
    return {
        "id": call.id,
        "provider": call.provider.value,
        "operation": call.operation,
        "input": call.input,
        "at": call.at.isoformat(),
        "finished_at": call.finished_at and call.finished_at.isoformat(),
        "http_status": call.http_status,
        "billed": call.billed,
        "result": call.result,
        "faults": call.faults.model_dump(mode="json", exclude_defaults=True),
        "webhooks": [{**asdict(delivery), "at": delivery.at.isoformat()} for delivery in call.deliveries],
    }
