"""One piece of news, the same whichever way it goes."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

MOST_SUBJECT = 200  # characters
MOST_TEXT = 20_000


@dataclass(frozen=True, kw_only=True)
class Message:
    """`key`: what is sent twice under one key is one piece of news; receivers can tell. `to`: a mail address."""

    subject: str
    text: str
    key: str
    to: str | None = None

    @property
    def id(self) -> str:
        """Return the key as it is shown to others: short, and safe in a header whatever the key was made of."""
        # A message that failed may have arrived all the same: by this its receiver knows it again.
        return f"msg_{sha256(self.key.encode()).hexdigest()[:32]}"

    def one_line(self) -> str:
        """Return the subject as a header takes it: on one line, of at most `MOST_SUBJECT` characters."""
        # A line break would begin another header, `Bcc:` for one.
        return " ".join(self.subject.split())[:MOST_SUBJECT]
