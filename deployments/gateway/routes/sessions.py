"""`/v1/sessions`: a key is exchanged for a bearer that a page may hold: half a day, and no longer than the key.

For operators a sign-on by an identity provider is, too (`sign_on.py`).
"""

from __future__ import annotations

import logging

from fastapi import Response

from darkroom.deployments.gateway.auth import ActingCaller, Credentials
from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.problems import Problem, not_found
from darkroom.deployments.gateway.routing import whole_router
from darkroom.deployments.gateway.schemas.sessions import (
    NewSessionDocument,
    SessionDocument,
    SignOnDocument,
    SignOnProof,
)
from darkroom.deployments.gateway.services import Services, ServicesOf
from darkroom.deployments.gateway.sign_on import NoOperator, Refused, SignOn

logger = logging.getLogger(__name__)

router = whole_router(prefix="/v1/sessions", tags=["Sessions"])


@router.post("", status_code=201, summary="Open a session", responses=problem_responses(401, 403))
def open_session(caller: ActingCaller, services: ServicesOf) -> NewSessionDocument:
    """Open a session with a key. The token is a bearer as the key is, for the same scopes, and never shown again.

    It holds twelve hours, and ends sooner with its key. A session opens no other one.
    """
    if caller.session:  # else whoever got hold of one could go on for ever
        raise Problem(
            403,
            "A session opens no other one.",
            field="Authorization",
            remedy="Send the API key itself as the bearer.",
        )
    made = services.ledger.sessions.open(caller.key)
    return NewSessionDocument(token=made.token, expires_at=made.expires_at)


@router.post(
    "/oidc/authorization",
    summary="Begin a sign-on by the identity provider",
    responses=problem_responses(404, 503),
)
def begin_sign_on(services: ServicesOf) -> SignOnDocument:
    """For operators, where a provider is set. Lead a browser to `url`, and keep the rest for when it comes back."""
    return SignOnDocument.model_validate(_sign_on(services).begin())


@router.post(
    "/oidc",
    status_code=201,
    summary="Open a session by the identity provider",
    responses=problem_responses(401, 403, 404, 413, 415, 422, 503),
)
def finish_sign_on(proof: SignOnProof, services: ServicesOf) -> NewSessionDocument:
    """With the code that a browser came back with, in place of a key: for who is on the list of operators.

    The session has all scopes, and leans on a key named `single sign-on`: whoever revokes that ends it.
    """
    sign_on = _sign_on(services)
    try:
        who = sign_on.finish(proof.code, nonce=proof.nonce, code_verifier=proof.code_verifier, issuer=proof.iss)
    except Refused as refused:
        # Why is for the log alone: whoever came is shown nothing of the token.
        logger.warning("A sign-on was refused: %s", refused)
        remedy = "Begin again; if that does not help, the gateway's log says why."
        raise Problem(401, "The identity provider has not proved who that is.", field="code", remedy=remedy) from None
    except NoOperator:
        remedy = "An operator has to put them on DARKROOM_OIDC_OPERATORS; or sign in with a key."
        raise Problem(403, "They are not on the list of operators.", field="code", remedy=remedy) from None
    made = services.ledger.sessions.open_for_operator(who)
    return NewSessionDocument(token=made.token, expires_at=made.expires_at)


@router.get("/current", summary="Look at the session", responses=problem_responses(401, 403, 404))
def get_session(caller: ActingCaller, credentials: Credentials, services: ServicesOf) -> SessionDocument:
    """Tell whose it is, what it is good for, and until when."""
    assert credentials is not None  # else there would be no caller
    found = services.ledger.sessions.get(credentials.credentials) if caller.session else None
    if found is None:  # it is a key that was shown, or a session that has ended in this moment
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


def _sign_on(services: Services) -> SignOn:
    if services.sign_on is None:
        remedy = "Sign in with a key; DARKROOM_OIDC_ISSUER names a provider."
        raise Problem(404, "No identity provider is set here.", remedy=remedy)
    return services.sign_on
