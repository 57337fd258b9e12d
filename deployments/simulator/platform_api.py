"""api.fal.ai: the account's own list of requests, where an orphan whose submit answer was lost can be found."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .answers import FalError, Json, account_of
from .book import Entry
from .provider import Provider

_MAX_LIMIT = 100


class PlatformApi:
    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def routes(self) -> list[Route]:
        return [
            Route("/v1/models/requests/by-endpoint", self.requests_by_endpoint, methods=["GET"]),
            Route("/v1/meta", self.meta, methods=["GET"]),
        ]

    async def requests_by_endpoint(self, request: Request) -> Response:
        """Newest first; `cursor` is the id of the last request of the page before."""
        account, query = account_of(request), request.query_params
        limit = _limit(query.get("limit", "50"))
        start, end = _moment(query.get("start")), _moment(query.get("end"))
        matching = [
            entry
            for entry in reversed(self._provider.book.entries())
            if entry.account is account
            and entry.endpoint == query.get("endpoint_id")
            and (start is None or entry.submitted_at >= start)
            and (end is None or entry.submitted_at < end)
        ]
        if cursor := query.get("cursor"):
            # By place, not by comparing ids: two of one millisecond sort by chance.
            ids = [entry.request_id for entry in matching]
            matching = matching[ids.index(cursor) + 1 :] if cursor in ids else []
        page, has_more = matching[:limit], len(matching) > limit
        with_payloads = "payloads" in query.get("expand", "")
        return Json(
            {
                "items": [_item(entry, with_payloads=with_payloads) for entry in page],
                "next_cursor": page[-1].request_id if has_more else None,
                "has_more": has_more,
            }
        )

    async def meta(self, _: Request) -> Response:
        return Json({"webhook_ip_ranges": ["127.0.0.1/32"]})


def _item(entry: Entry, *, with_payloads: bool) -> dict[str, Any]:
    outcome = entry.outcome
    item: dict[str, Any] = {
        "request_id": entry.request_id,
        "endpoint_id": entry.endpoint,
        "sent_at": entry.submitted_at.isoformat(),
        "started_at": entry.started_at and entry.started_at.isoformat(),
        "ended_at": entry.finished_at and entry.finished_at.isoformat(),
        "status_code": outcome and outcome.http_status,
        "duration": entry.inference_seconds,
    }
    if with_payloads:
        item |= {"json_input": entry.input, "json_output": outcome and outcome.body}
    return item


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MAX_LIMIT:
        raise FalError(422, {"detail": f"limit must be a number from 1 to {_MAX_LIMIT}"})
    return int(text)


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise FalError(422, {"detail": f"Not an ISO 8601 time: {text}"}) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
