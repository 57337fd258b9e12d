"""The account's own list of requests, where one whose submit answer was lost can be found, and deletions from it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..answers import Json
from ..book import Account, Entry, State
from ..provider import Provider
from .access import ADMINS, READERS, caller, invalid, not_found, page, span, values, written

_PAGE, _MAX_PAGE = 50, 100  # both fal's own
_REMEMBERED_SECONDS = 600  # fal keeps the answer to an idempotency key for ten minutes
_GROUPS = {"success": range(200, 300), "user_error": range(400, 500), "error": range(500, 600)}


class RequestsApi:
    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        # By account and its idempotency key.
        self._deleted: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}

    def routes(self) -> list[Route]:
        return [
            Route("/v1/models/requests/by-endpoint", self.requests_by_endpoint, methods=["GET"]),
            Route("/v1/models/requests/{request_id}/payloads", self.delete_payloads, methods=["DELETE"]),
            Route("/v1/meta", self.meta, methods=["GET"]),
        ]

    async def requests_by_endpoint(self, request: Request) -> Response:
        """List newest first."""
        account = caller(request, *READERS)
        endpoints, is_sought = values(request, "endpoint_id", required=True), self._sought(request)
        found = [entry for entry in self._listed(account) if entry.endpoint in endpoints and is_sought(entry)]
        shown, words = page(request, found, usual=_PAGE, most=_MAX_PAGE)
        with_payloads = "payloads" in values(request, "expand")
        return Json({"items": [_item(entry, with_payloads=with_payloads) for entry in shown], **words})

    def _listed(self, account: Account) -> list[Entry]:
        # It is not known whether fal lists what still waits, and which of a request's times the list goes by. As it
        # comes, the submit's, and everything is in it; operators switch it to `ended`: only what is over, by its end.
        entries = [entry for entry in self._provider.book.entries() if entry.account is account]
        if self._provider.request_list == "ended":
            # fal's specification has no item without `started_at`.
            entries = [entry for entry in entries if entry.state is State.COMPLETED and entry.started_at]
        return sorted(entries, key=self._time, reverse=True)

    def _time(self, entry: Entry) -> datetime:
        if self._provider.request_list == "ended" and entry.finished_at:
            return entry.finished_at
        return entry.submitted_at

    def _sought(self, request: Request) -> Callable[[Entry], bool]:
        """Return what tells whether the query asks for a request. Raise PlatformError for one that cannot be read."""
        start, end = span(request)
        ids, status = values(request, "request_id"), request.query_params.get("status")
        if status is not None and status not in _GROUPS:
            raise invalid(f"status must be one of {', '.join(_GROUPS)}")
        # Where ids are given fal looks 90 days back by itself, else 24 hours.
        since = start - timedelta(days=90) if ids and not request.query_params.get("start") else start
        # What came later is not in the list yet, whatever end is asked for.
        known = datetime.now(UTC) - timedelta(seconds=self._provider.request_list_lag)

        def is_sought(entry: Entry) -> bool:
            if ids and entry.request_id not in ids:
                return False
            if status and (entry.outcome is None or entry.outcome.http_status not in _GROUPS[status]):
                return False
            # `start` and `end` are compared with the time that the list goes by.
            at = self._time(entry)
            return since <= at < end and at <= known

        return is_sought

    async def delete_payloads(self, request: Request) -> Response:
        """Delete what went in and came out, and the files that came out; those that went in stay."""
        account = caller(request, *ADMINS)
        key = account.user_id, request.headers.get("idempotency-key", "")
        if (known := self._deleted.get(key)) and time.monotonic() - known[0] < _REMEMBERED_SECONDS:
            return Json(known[1])
        entry = self._provider.book.get(request.path_params["request_id"])
        if entry is None or entry.account is not account:
            raise not_found("No such request")
        answer = {"cdn_delete_results": self._delete(entry)}
        if key[1]:
            self._deleted[key] = time.monotonic(), answer
        return Json(answer)

    def _delete(self, entry: Entry) -> list[dict[str, Any]]:
        entry.payloads_deleted = True
        self._provider.note(entry)
        results = []
        for url in entry.outputs:
            gone = None if self._provider.cdn.delete(url) else "File not found"
            results.append({"link": url, "exception": gone})
        return results

    async def meta(self, _: Request) -> Response:
        # Where webhooks come from: fal has addresses of its own, the simulator this machine's.
        return Json({"webhook_ip_ranges": ["127.0.0.1/32"]})


def _item(entry: Entry, *, with_payloads: bool) -> dict[str, Any]:
    outcome = entry.outcome
    item: dict[str, Any] = {
        "request_id": entry.request_id,
        "endpoint_id": entry.endpoint,
        "sent_at": written(entry.submitted_at),
        "started_at": entry.started_at and written(entry.started_at),
        "ended_at": entry.finished_at and written(entry.finished_at),
        "status_code": outcome and outcome.http_status,
        "duration": entry.inference_seconds if outcome else None,
    }
    # None of what was erased, nor of what came with `X-Fal-Store-IO: 0`.
    if with_payloads and entry.payloads_kept and not entry.payloads_deleted:
        item |= {"json_input": entry.input, "json_output": outcome and outcome.body}
    return item
