"""`/v1/sessions`: a key is exchanged for a bearer that a page may hold: half a day, and no longer than the key."""

from __future__ import annotations

from fastapi import APIRouter, Response

from darkroom.deployments.gateway.auth import ActingCaller, Credentials
from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.problems import Problem, not_found
from darkroom.deployments.gateway.schemas.sessions import NewSessionDocument, SessionDocument
from darkroom.deployments.gateway.services import ServicesOf

router = APIRouter(prefix="/v1/sessions", tags=["Sessions"])


@router.post("", status_code=201, summary="Open a session", responses=problem_responses(401, 403))
def open_session(caller: ActingCaller, services: ServicesOf) -> NewSessionDocument:
    """Open a session with a key. The token is a bearer as the key is, for the same scopes, and never shown again.

    It holds twelve hours, and ends sooner with its key. A session opens no other one.
    """
    if caller.session:
        raise Problem(
            403,
            "A session opens no other one.",
            field="Authorization",
            remedy="Send the API key itself as the bearer.",
        )
    made = services.ledger.sessions.open(caller.key)
    return NewSessionDocument(token=made.token, expires_at=made.expires_at)


@router.get("/current", summary="Look at the session", responses=problem_responses(401, 403, 404))
def get_session(caller: ActingCaller, credentials: Credentials, services: ServicesOf) -> SessionDocument:
    """Tell whose it is, what it is good for, and until when."""
    assert credentials is not None
    found = services.ledger.sessions.get(credentials.credentials) if caller.session else None
    if found is None:
        raise not_found("session")
    return SessionDocument(
        user_id=found.key.user_id,
        user=services.ledger.users.find(found.key.user_id).name,
        key_id=found.key.id,
        key_name=found.key.name,
        scopes=list(found.key.scopes),
        created_at=found.created_at,
        expires_at=found.expires_at,
    )


@router.delete(
    "/current",
    status_code=204,
    response_class=Response,
    summary="End the session",
    responses=problem_responses(401, 403),
)
def close_session(caller: ActingCaller, credentials: Credentials, services: ServicesOf) -> None:
    """End the session at once, and its streams with it. With a key nothing ends: a key is no session."""
    assert credentials is not None
    if caller.session:
        services.ledger.sessions.close(credentials.credentials)
