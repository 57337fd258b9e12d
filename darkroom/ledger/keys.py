"""API keys: several for each user, named, for some things or for all, until a day or for good.

A key is seen once, when it is made. The ledger keeps its digest, and what it is good for; that is never changed, so
whoever needs another makes another.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta

from sqlalchemy import tuple_
from sqlmodel import Session, col, select

from darkroom.errors import BadInput
from darkroom.ledger.database import run
from darkroom.ledger.key_tables import USUAL, ApiKey, Scope
from darkroom.ledger.news import CHANNEL as NEWS_CHANNEL
from darkroom.ledger.part import Part
from darkroom.ledger.tables import User, new_id

LONGEST_NAME = 100
LONGEST_LIFE = timedelta(days=100 * 366)
USED_EVERY = timedelta(minutes=1)  # so often at most is written when a key was used


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """A key in clear: the only time it is seen. The ledger keeps its digest."""

    user_id: str
    id: str
    key: str


@dataclass(frozen=True, kw_only=True)
class KnownKey:
    """A key, without the key. `expires_at`: when it stops, as it was made or as a rotation has said."""

    id: str
    name: str
    user_id: str
    scopes: tuple[Scope, ...]
    service: bool
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None

    def status(self, now: datetime) -> str:
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "open"


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Whom a key belongs to, and what it is good for. A service may act for its own end users.

    `calls_per_minute`: how often it may call, by its user's plan; None: as often as it likes. `key`: its digest, also
    where a session of it was shown.
    """

    user_id: str
    service: bool
    scopes: frozenset[Scope] = frozenset(USUAL)
    calls_per_minute: int | None = None
    key: str = ""
    session: bool = False


class Keys(Part):
    def add(
        self,
        user_id: str,
        *,
        name: str,
        scopes: Sequence[str] = USUAL,
        expires_at: datetime | None = None,
        service: bool = False,
    ) -> NewKey:
        """Make one more key for a user. The others stay as they are."""
        if not (0 < len(name.strip()) <= LONGEST_NAME and name.isprintable()):
            raise BadInput(f"A key's name is 1 to {LONGEST_NAME} printable characters.", field="name")
        if expires_at is not None and expires_at <= self._now():
            raise BadInput("That is over already. Give a time that is to come, or none.", field="expires_at")
        if expires_at is not None and expires_at - self._now() > LONGEST_LIFE:
            raise BadInput("That is too far away. Give none for a key that does not expire.", field="expires_at")
        wanted = known_scopes(scopes)
        with Session(self._engine) as session:
            key = new_key(session, user_id, name=name, scopes=wanted, expires_at=expires_at, service=service)
            session.commit()
            return key

    def page(
        self, *, user_id: str | None = None, limit: int, before: tuple[datetime, str] | None = None
    ) -> list[KnownKey]:
        """Return keys, newest first, also those that have ended: of one user, or of all."""
        asked = select(ApiKey).order_by(col(ApiKey.created_at).desc(), col(ApiKey.id).desc()).limit(limit)
        if user_id is not None:
            asked = asked.where(ApiKey.user_id == user_id)
        if before is not None:
            asked = asked.where(tuple_(col(ApiKey.created_at), col(ApiKey.id)) < tuple_(*before))
        with Session(self._engine) as session:
            return [known(key) for key in session.exec(asked)]

    def get(self, id: str) -> KnownKey | None:
        with Session(self._engine) as session:
            found = session.exec(select(ApiKey).where(ApiKey.id == id)).one_or_none()
            return None if found is None else known(found)

    def revoke(self, id: str) -> KnownKey:
        """End a key now. One that has been ended stays as it was."""
        with Session(self._engine) as session:
            key = session.exec(select(ApiKey).where(ApiKey.id == id).with_for_update()).one_or_none()
            if key is None:
                raise BadInput(f"There is no key {id!r}. See: darkroom key list USER.", field="id")
            key.revoked_at = key.revoked_at or self._now()
            session.add(key)
            tell_streams(session)
            session.commit()
            session.refresh(key)
            return known(key)


def tell_streams(session: Session) -> None:
    """Have the gateways look, after the commit, whose streams end with their keys."""
    run(session.connection(), "run_notify", channel=NEWS_CHANNEL)


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def known_scopes(given: Collection[str]) -> list[Scope]:
    """Return the scopes in their order, each once. Raise BadInput for none, and for what is none."""
    wanted = [scope for scope in Scope if scope in given]
    if not given or len(wanted) < len(set(given)):
        raise BadInput(f"Scopes are one or more of {', '.join(Scope)}.", field="scopes")
    return wanted


def new_key(
    session: Session,
    user_id: str,
    *,
    service: bool,
    scopes: Sequence[Scope] = USUAL,
    name: str = "",
    expires_at: datetime | None = None,
) -> NewKey:
    key, id = f"dk_{secrets.token_urlsafe(32)}", new_id("key_")
    session.add(
        ApiKey(
            digest=digest(key),
            id=id,
            name=name,
            user_id=user_id,
            service=service,
            scopes=[*scopes],
            expires_at=expires_at,
        )
    )
    return NewKey(user_id=user_id, id=id, key=key)


def scopes_of(user: User, keys: Sequence[ApiKey], *, operator: str) -> list[Scope]:
    """Return what a key is good for that replaces these: all that they are, the operator's for everything."""
    if user.id == operator:
        return list(Scope)
    found = {scope for key in keys for scope in key.scopes}
    return [scope for scope in Scope if scope in (found or USUAL)]


def known(key: ApiKey) -> KnownKey:
    # What a later version may have written of scopes is passed over.
    scopes = tuple(scope for scope in Scope if scope in key.scopes)
    return KnownKey(**{each.name: getattr(key, each.name) for each in fields(KnownKey)} | {"scopes": scopes})
