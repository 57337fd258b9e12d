"""Sessions: what a page in a browser holds in place of a key, good for what the key is, for half a day.

A session is its own bearer, seen once as a key is, of which the ledger keeps the digest. It leans on its key:
every statement that looks for a caller joins the two, so whatever ends the key ends its sessions with the same commit.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col, select

from darkroom.ledger.database import run
from darkroom.ledger.key_tables import ApiKey, KeySession, Scope
from darkroom.ledger.keys import KnownKey, digest, known, new_key
from darkroom.ledger.part import Part
from darkroom.ledger.tables import User, new_id

SIGN_ON = "single sign-on"  # the name of the key that such sessions lean on
PLAN = "pro"
LIFETIME = timedelta(hours=12)
PREFIX = "ds_"


@dataclass(frozen=True, kw_only=True)
class NewSession:
    """A session in clear: the only time it is seen."""

    token: str
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class KnownSession:
    """A session, without its token. `key`: on which it leans."""

    key: KnownKey
    created_at: datetime
    expires_at: datetime


class Sessions(Part):
    def open(self, key_digest: str) -> NewSession:
        """Make a session of a key that holds, and forget those of the key that have run out."""
        token, now = f"{PREFIX}{secrets.token_urlsafe(32)}", self._now()
        made = NewSession(token=token, expires_at=now + LIFETIME)
        with self._engine.begin() as connection:
            run(connection, "session_forget", key=key_digest, now=now)
            run(connection, "session_open", digest=digest(token), key=key_digest, now=now, expires_at=made.expires_at)
        return made

    def open_for_operator(self, who: str) -> NewSession:
        """Make a session for an operator whom an identity provider has vouched for.

        Their user is made on first use, and so is the key that their sessions lean on, which nobody ever sees.
        """
        name, now = f"sso:{who}", self._now()
        with Session(self._engine) as session:
            made = insert(User).values(id=new_id("u"), name=name, plan=PLAN, notified=0, created_at=now)
            session.execute(made.on_conflict_do_nothing())  # another sign-on of theirs may have made it
            # Not a service's end user, who may have any name.
            user = session.exec(select(User).where(User.name == name, col(User.parent_id).is_(None))).one()
            held = select(ApiKey).where(
                ApiKey.user_id == user.id,
                ApiKey.name == SIGN_ON,
                col(ApiKey.revoked_at).is_(None),
                col(ApiKey.expires_at).is_(None),
            )
            key = session.exec(held).first()
            leans_on = (
                key.digest
                if key
                else digest(new_key(session, user.id, service=False, scopes=list(Scope), name=SIGN_ON).key)
            )
            session.commit()
        return self.open(leans_on)

    def close(self, token: str) -> None:
        """End a session now."""
        self._run("session_close", digest=digest(token))

    def get(self, token: str) -> KnownSession | None:
        """Return a session by its token, also one that has run out or whose key has ended."""
        asked = select(KeySession, ApiKey).join(ApiKey).where(KeySession.digest == digest(token))
        with Session(self._engine) as session:
            found = session.exec(asked).one_or_none()
            if found is None:
                return None
            opened, key = found
            return KnownSession(key=known(key), created_at=opened.created_at, expires_at=opened.expires_at)
