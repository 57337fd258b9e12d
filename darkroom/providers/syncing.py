"""The cards of all models, brought from the platforms into the ledger: the same again changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from darkroom.ledger import Ledger
from darkroom.providers.registry import accounts
from darkroom.providers.shelf import keep_packaged


@dataclass(frozen=True, kw_only=True)
class Synced:
    seen: int
    changed: int  # new models, and new versions of known ones

    def __str__(self) -> str:
        return f"{self.seen} models, {self.changed} of them new or changed"


def sync_all(ledger: Ledger, *, tell: Callable[[Synced], None] = lambda _: None) -> Synced:
    """Read every platform's list and keep what has changed, page by page: what was read stays if a later page fails.

    `tell`: called after each page. Raise Retry or Park where a platform cannot be read to its end.
    """
    keep_packaged(ledger)
    so_far = Synced(seen=0, changed=0)
    for account in accounts().values():
        with account.platform() as platform:
            for page in platform.pages() if platform is not None else ():
                changed = ledger.models.keep([card.facts() for card in page])
                so_far = Synced(seen=so_far.seen + len(page), changed=so_far.changed + changed)
                tell(so_far)
    return so_far


def sync_one(ledger: Ledger, endpoint: str) -> bool | None:
    """Fetch one model's card. Return whether it has changed; None where no platform has it."""
    for account in accounts().values():
        with account.platform() as platform:
            if platform is not None and (card := platform.card(endpoint)) is not None:
                return bool(ledger.models.keep([card.facts()]))
    return None
