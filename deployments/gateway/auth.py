"""Who is asking: a bearer key, and for the key of a service the end user it acts for.

`UserId` is what endpoints take: the id of the user for whom the request counts. `ActingCaller` says whose key it is,
too. Here a key is held against what its route needs (`scopes.py`), and its calls are counted (`rates.py`): an endpoint
that knows its caller has both behind it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from darkroom.deployments.gateway.problems import Problem
from darkroom.deployments.gateway.rates import tell
from darkroom.deployments.gateway.scopes import scope_of
from darkroom.deployments.gateway.services import Services, ServicesOf
from darkroom.ledger import Caller, Scope

LONGEST_NAME = 200

bearer = HTTPBearer(
    auto_error=False,  # files and the stream are opened by links and tokens, too
    scheme_name="ApiKey",
    description="A key that `darkroom user add` or `darkroom key add` printed, as `Authorization: Bearer <key>`.",
)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
EndUser = Annotated[
    str | None,
    Header(
        alias="Darkroom-User",
        description="Only with the key of a service: which of its end users it acts for. Made on first use.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Acting:
    """`key_user_id`: whose key it is. `user_id`: for whom the request counts. `service`: it speaks for all its own.

    `key`: digest of the key. `session`: it was not shown itself, but a session of it.
    """

    key_user_id: str
    user_id: str
    service: bool
    key: str
    session: bool


def acting_caller(request: Request, services: ServicesOf, credentials: Credentials, end_user: EndUser = None) -> Acting:
    """Return who acts, and for whom.

    Raise 401 without a good key, 403 without the scope that the route needs or for acting for somebody without being a
    service, 429 for a key that has called too often.
    """
    # A plain function, unlike those below: it asks the ledger, and waits for that in another thread.
    caller = services.ledger.users.authenticate(credentials.credentials) if credentials else None
    if caller is None or credentials is None:
        raise _no_key()
    _count(request, services, caller)  # first, as a refusal is a call, too
    needed = scope_of(request.method, request.scope["path"])
    if needed not in caller.scopes:
        raise _out_of_scope(needed)
    if end_user is None:
        return _acting(caller, caller.user_id, service=caller.service)
    if not caller.service:
        raise Problem(
            403,
            "This key is no service's, so it acts for its own user only.",
            field="Darkroom-User",
            remedy="Leave the header out, or use the key of a service.",
        )
    # A service is one for itself alone: who acts for an end user sees no other's.
    user_id = services.ledger.users.end_user(caller.user_id, _checked(end_user)).id
    return _acting(caller, user_id, service=False)


def _acting(caller: Caller, user_id: str, *, service: bool) -> Acting:
    return Acting(key_user_id=caller.user_id, user_id=user_id, service=service, key=caller.key, session=caller.session)


ActingCaller = Annotated[Acting, Depends(acting_caller)]


async def acting_user(caller: ActingCaller) -> str:
    """Return the user of `acting_caller`, for the many who need not know whose key it is."""
    # `async`: FastAPI takes a plain function to another thread and back, for every request.
    return caller.user_id


UserId = Annotated[str, Depends(acting_user)]


async def owner_of_what_is_asked(request: Request, caller: ActingCaller) -> str | None:
    """Return whose things the request may be about. None: anybody's, at the addresses that take the scope `admin`."""
    return None if scope_of(request.method, request.scope["path"]) is Scope.ADMIN else caller.user_id


Owner = Annotated[str | None, Depends(owner_of_what_is_asked)]


def _no_key() -> Problem:
    return Problem(
        401,
        "There is no key, or it is not valid (any more).",
        field="Authorization",
        remedy="Send `Authorization: Bearer <key>`; `darkroom user add NAME` (or `rotate`) prints one.",
        headers={"WWW-Authenticate": "Bearer"},  # RFC 9110, 15.5.2: a 401 has it
    )


def _out_of_scope(needed: Scope) -> Problem:
    return Problem(
        403,
        f"This key is not for that: it lacks the scope `{needed}`.",
        field="Authorization",
        remedy=f"Use a key that has it; `darkroom key add USER --name NAME --scope {needed}` makes one.",
    )


def _count(request: Request, services: Services, caller: Caller) -> None:
    if caller.calls_per_minute is None:
        return
    # By the key, with which its sessions count: else whoever opened more of them could call as much more often.
    counted = services.rates.count(caller.key, caller.calls_per_minute)
    tell(request.scope, counted)  # first, as a refusal says it, too
    if not counted.taken:
        seconds = math.ceil(counted.seconds)  # up: who comes a moment early is refused again
        raise Problem(
            429,
            f"This key has called {caller.calls_per_minute} times within a minute, the most on its plan.",
            field="Authorization",
            remedy=f"Send it again in {seconds} s; `RateLimit` on every answer says how many are left.",
            headers={"Retry-After": str(seconds)},
        )


def _checked(header: str) -> str:
    name = _as_utf8(header)
    if name.strip() and len(name) <= LONGEST_NAME and name.isprintable():
        return name
    raise Problem(
        422,
        f"The name of an end user is 1 to {LONGEST_NAME} printable characters.",
        field="Darkroom-User",
        remedy="Send your own id of that user, for instance its number in your database.",
    )


def _as_utf8(header: str) -> str:
    """Read the value of a header as UTF-8, where it is that."""
    # By the letter of HTTP it is latin-1, as which the server reads it; about everybody sends UTF-8.
    try:
        return header.encode("latin-1").decode()
    except ValueError:  # it was latin-1 after all
        return header
