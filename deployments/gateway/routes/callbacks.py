"""`/v1/callback-endpoint` and `/v1/callbacks`: where a user's application is told, and the outcome of each delivery."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Query

from darkroom.clock import utc_now
from darkroom.deployments.gateway.auth import ActingCaller
from darkroom.deployments.gateway.callback_signing import as_text, secret_of
from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.problems import Problem, not_found
from darkroom.deployments.gateway.routing import whole_router
from darkroom.deployments.gateway.schemas.callbacks import (
    CallbackDocument,
    CallbackPage,
    CallbackStatus,
    EndpointDocument,
    EndpointOrder,
    ResendOrder,
    Resent,
    RotatedSecret,
    callback_document,
    endpoint_document,
)
from darkroom.deployments.gateway.schemas.paging import Cursor, Limit, created, cut, read_cursor
from darkroom.deployments.gateway.services import ServicesOf

router = whole_router(tags=["Callbacks"])

Id = Annotated[str, Path(max_length=100, examples=["msg_5f0c"])]
Status = Annotated[CallbackStatus | None, Query(description="Only those in this status.")]


def endpoint_owner(caller: ActingCaller) -> str:
    """Return whose endpoint it is: the owner's of the key. Raise 403 where it is asked for an end user."""
    if caller.user_id == caller.key_user_id:
        return caller.key_user_id
    raise Problem(
        403,
        "The endpoint is the service's, which is told of all its end users.",
        field="Darkroom-User",
        remedy="Leave the header out.",
    )


Owner = Annotated[str, Depends(endpoint_owner)]


@router.put("/v1/callback-endpoint", summary="Say where you are told", responses=problem_responses(401, 403, 422))
def put_callback_endpoint(order: EndpointOrder, owner_id: Owner, services: ServicesOf) -> EndpointDocument:
    """Say where your application is called for each of the events, of all your jobs; a service's of all its end users'.

    The answer shows the `secret` the first time. An endpoint that was switched off is on again by this, and what was
    not delivered yet goes to the new address.
    """
    services.callbacks.check(order.url, field="url")
    endpoint, fresh = services.ledger.callbacks.put_endpoint(
        owner_id, url=order.url, events=order.events, thin=order.thin
    )
    return endpoint_document(endpoint, secret=as_text(secret_of(endpoint.salt, services.settings)) if fresh else None)


@router.get("/v1/callback-endpoint", summary="Show where you are told", responses=problem_responses(401, 403, 404))
def get_callback_endpoint(owner_id: Owner, services: ServicesOf) -> EndpointDocument:
    """Show the endpoint, without its secret."""
    endpoint = services.ledger.callbacks.endpoint(owner_id)
    if endpoint.url is None:  # a row may be there for its secret alone, by which the addresses of orders are told
        raise Problem(404, "You have no callback endpoint.", remedy="Name one with `PUT /v1/callback-endpoint`.")
    return endpoint_document(endpoint)


@router.delete(
    "/v1/callback-endpoint", status_code=204, summary="Be told no more", responses=problem_responses(401, 403)
)
def delete_callback_endpoint(owner_id: Owner, services: ServicesOf) -> None:
    """Give up what was on its way there. Orders with a `callback_url` are told as before."""
    services.ledger.callbacks.drop_endpoint(owner_id)


@router.post("/v1/callback-endpoint/rotate", summary="Make a new secret", responses=problem_responses(401, 403))
def rotate_callback_secret(owner_id: Owner, services: ServicesOf) -> RotatedSecret:
    """Make a new secret.

    For a day both sign. Without an endpoint, too: the secret signs what goes to the `callback_url` of orders.
    """
    endpoint = services.ledger.callbacks.rotate(owner_id)
    return RotatedSecret(
        secret=as_text(secret_of(endpoint.salt, services.settings)),
        before_until=endpoint.before_until if endpoint.salt_before else None,  # the first has none before it
    )


@router.post(
    "/v1/callback-endpoint/test",
    status_code=202,
    summary="Have the endpoint called",
    response_description="It is on its way; `GET /v1/callbacks` tells what became of it.",
    responses=problem_responses(401, 403, 409),
)
def test_callback_endpoint(owner_id: Owner, services: ServicesOf) -> CallbackDocument:
    """Send a callback of type `callback.test`, signed and tried again like any other."""
    callback = services.ledger.callbacks.test(owner_id)
    services.callbacks.wake()  # else it is found with the next look, within seconds
    return callback_document(callback)


@router.get("/v1/callbacks", summary="List callbacks", responses=problem_responses(401, 403, 422))
def list_callbacks(
    caller: ActingCaller, services: ServicesOf, limit: Limit = 50, cursor: Cursor = None, status: Status = None
) -> CallbackPage:
    """Newest first, with what your application answered last. `dead` are those that are not tried any more."""
    found = services.ledger.callbacks.page(
        caller.key_user_id, user_id=_about(caller), status=status, before=read_cursor(cursor), limit=limit + 1
    )
    page, following = cut(found, limit, created)
    return CallbackPage(items=[callback_document(each) for each in page], next=following)


@router.post(
    "/v1/callbacks/resend",
    status_code=202,
    summary="Send all dead callbacks again",
    response_description="They are on their way.",
    responses=problem_responses(401, 403, 422),
)
def resend_callbacks(order: ResendOrder, caller: ActingCaller, services: ServicesOf) -> Resent:
    """Send all again that were given up since a time, with the ids that they had, and with all their attempts."""
    since = min(order.since, utc_now())
    resent = services.ledger.callbacks.resend_dead(caller.key_user_id, user_id=_about(caller), since=since)
    services.callbacks.wake()
    return Resent(resent=resent)


@router.post(
    "/v1/callbacks/{id}/resend",
    status_code=202,
    summary="Send a callback again",
    response_description="It is on its way.",
    responses=problem_responses(401, 403, 404, 409),
)
def resend_callback(id: Id, caller: ActingCaller, services: ServicesOf) -> CallbackDocument:
    """Send one again, whatever its outcome, with the id that it had."""
    callbacks = services.ledger.callbacks
    callback = callbacks.get(id, owner_id=caller.key_user_id, user_id=_about(caller))
    if callback is None:
        raise not_found("callback")
    again = callbacks.resend(callback)
    services.callbacks.wake()
    return callback_document(again)


def _about(caller: ActingCaller) -> str | None:
    """Return whose news alone it is about; None for all that the owner of the key is told."""
    return None if caller.user_id == caller.key_user_id else caller.user_id
