"""The tokens that uploads are made with. Nothing is kept of them, so that they outlive a process as they do at fal."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

from .book import ACCOUNTS, Account
from .certificates import write_once

LIFETIME = timedelta(hours=1)
_ACCOUNTS = {account.user_id: account for account in ACCOUNTS.values()}


class UploadTokens:
    def __init__(self, home: Path) -> None:
        path = home / "upload-token-secret"
        if not path.exists():
            write_once(path, secrets.token_bytes(32))
        self._secret = path.read_bytes()

    def issue(self, account: Account, *, ends: datetime) -> str:
        said = f"{account.user_id}.{int(ends.timestamp())}"
        return f"{said}.{self._mac(said)}"

    def account_of(self, token: str) -> Account | None:
        """Return whose token it is. None: it is none of ours, or its time is over."""
        said, _, mac = token.rpartition(".")
        # As bytes: of a text that is not ASCII the comparison would raise.
        if not hmac.compare_digest(mac.encode(), self._mac(said).encode()):
            return None
        user_id, _, ends = said.rpartition(".")
        return _ACCOUNTS[user_id] if datetime.now(UTC).timestamp() < int(ends) else None

    def _mac(self, said: str) -> str:
        return hmac.new(self._secret, said.encode(), hashlib.sha256).hexdigest()
