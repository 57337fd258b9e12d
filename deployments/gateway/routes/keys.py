"""`/v1/keys`: the keys of whoever asks, without the keys."""

from __future__ import annotations

from darkroom.deployments.gateway.auth import ActingCaller
from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.routing import whole_router
from darkroom.deployments.gateway.schemas.admin import KeyPage, key_document
from darkroom.deployments.gateway.schemas.paging import Cursor, Limit, cut, read_cursor
from darkroom.deployments.gateway.services import ServicesOf

router = whole_router(prefix="/v1/keys", tags=["Sessions"])


@router.get("", summary="List your keys", responses=problem_responses(401, 403, 422))
def list_own_keys(caller: ActingCaller, services: ServicesOf, limit: Limit = 50, cursor: Cursor = None) -> KeyPage:
    """Newest first, those that have ended too. An end user of a service has none of their own."""
    found = services.ledger.keys.page(user_id=caller.user_id, limit=limit + 1, before=read_cursor(cursor))
    page, following = cut(found, limit, lambda key: (key.created_at, key.id))
    now = services.ledger.clock()
    return KeyPage(items=[key_document(key, now=now) for key in page], next=following)
