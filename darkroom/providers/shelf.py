"""Where cards are looked up: the ledger, then the platform on a model's first use, then what came with Darkroom.

One shelf is open in a process while it works with a ledger (`open_shelf`): a model is asked for in many places that
know none. A version of a card never changes, so it is kept for good; the newest of a model is looked up again after
some seconds, when prices and an operator's word may be others.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from fnmatch import fnmatchcase

from sqlalchemy.exc import DBAPIError

from darkroom.errors import BadInput, DarkroomError
from darkroom.ledger import OUTAGES, KnownModel, Ledger, is_refused_write
from darkroom.models import Card, packaged_cards
from darkroom.settings import ANY_MODEL

logger = logging.getLogger(__name__)

FRESH_SECONDS = 10.0
PLATFORM_COST_SECONDS = 3600.0  # that it does not say is known for as long
USUAL_SECONDS_KEPT = 300.0
MOST_KEPT = 4096
ENDPOINT = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+){1,7}")
LONGEST_ENDPOINT = 200

FetchCard = Callable[[str], Card | None]
FetchCost = Callable[[Card], Decimal | None]


@dataclass(frozen=True, kw_only=True)
class Found:
    """A card, and what an operator says of its model."""

    card: Card
    allowed: bool | None = None
    call_usd: Decimal | None = None


class Shelf:
    """Thread-safe. `fetch`: asks the platform for a card; `models`: the setting of that name."""

    def __init__(
        self,
        ledger: Ledger | None = None,
        *,
        fetch: FetchCard | None = None,
        fetch_cost: FetchCost | None = None,
        models: str = ANY_MODEL,
    ) -> None:
        self._ledger = ledger
        self._fetch, self._fetch_cost = fetch, fetch_cost
        self._globs = [each.strip() for each in models.split(",") if each.strip()]
        self._newest: dict[str, tuple[float, Found | None]] = {}
        self._versions: dict[tuple[str, int], Card] = {}
        self._seconds: dict[str, tuple[float, float | None]] = {}
        self._costs: dict[str, tuple[float, Decimal | None]] = {}
        self._platform_costs: dict[str, tuple[float, Decimal | None]] = {}
        self._lock = threading.Lock()
        self._first_use = threading.Lock()  # so that it is one question; known models do not wait for it

    def newest(self, endpoint: str, *, first_use: bool = True) -> Found | None:
        """Return what is known of the model today.

        `first_use`: ask the platform where nothing is, or no price, as some of the packaged cards have none.
        """
        is_fresh, found = self._known(endpoint)
        if is_fresh or _is_whole(found) or not first_use or self._fetch is None or not _is_endpoint(endpoint):
            return found
        with self._first_use:
            is_fresh, found = self._known(endpoint)
            if is_fresh or _is_whole(found):
                return found
            found = self._fetched(endpoint, self._fetch) or found
            with self._lock:
                self._note(endpoint, found)
            return found

    def _known(self, endpoint: str) -> tuple[bool, Found | None]:
        """Return what is known here, and whether it was looked up a moment ago; that nothing is, is known too."""
        with self._lock:
            at, found = self._newest.get(endpoint, (float("-inf"), None))
            if time.monotonic() - at < FRESH_SECONDS:
                return True, found
            if _is_whole(found := self._on_record(endpoint) or self._packaged(endpoint)):
                self._note(endpoint, found)
            return False, found

    def _note(self, endpoint: str, found: Found | None) -> None:
        if len(self._newest) >= MOST_KEPT:
            self._newest.clear()
        self._newest[endpoint] = time.monotonic(), found

    def version(self, endpoint: str, version: int) -> Card | None:
        """Return that version of a card, as a call has it on record."""
        with self._lock:
            key = endpoint, version
            if key not in self._versions:
                row = None if self._ledger is None else self._ledger.models.get(endpoint, version=version)
                if row is None:
                    return None
                if len(self._versions) >= MOST_KEPT:
                    self._versions.clear()
                self._versions[key] = Card.of_row(row.card)
            return self._versions[key]

    def usual_cost(self, endpoint: str) -> Decimal | None:
        """Return what nine in ten of our last calls came to at most."""
        with self._lock:
            at, cost = self._costs.get(endpoint, (float("-inf"), None))
            if time.monotonic() - at >= FRESH_SECONDS and self._ledger is not None:
                with suppress(*OUTAGES):
                    cost = self._ledger.models.usual_cost(endpoint)
                self._costs[endpoint] = time.monotonic(), cost
            return cost

    def platform_cost(self, card: Card) -> Decimal | None:
        """Return what a call usually comes to as its provider's platform says, which is asked once an hour."""
        with self._first_use:
            at, cost = self._platform_costs.get(card.endpoint, (float("-inf"), None))
            if time.monotonic() - at >= PLATFORM_COST_SECONDS and self._fetch_cost is not None:
                cost = self._fetch_cost(card)
                self._platform_costs[card.endpoint] = time.monotonic(), cost
            return cost

    def usual_time(self, endpoint: str) -> timedelta | None:
        """Return within how long 19 in 20 of our last calls had ended, as it was some minutes ago at most."""
        with self._lock:
            at, seconds = self._seconds.get(endpoint, (float("-inf"), None))
            if time.monotonic() - at >= USUAL_SECONDS_KEPT and self._ledger is not None:
                with suppress(*OUTAGES):
                    seconds = self._ledger.models.usual_seconds(endpoint)
                if len(self._seconds) >= MOST_KEPT:
                    self._seconds.clear()
                self._seconds[endpoint] = time.monotonic(), seconds
            return None if seconds is None else timedelta(seconds=seconds)

    def allows(self, found: Found | KnownModel) -> bool:
        """Return whether this installation sells the model: by an operator's word, else by the setting."""
        if found.allowed is not None:
            return found.allowed
        return ANY_MODEL in self._globs or any(fnmatchcase(found.card.endpoint, glob) for glob in self._globs)

    def require_allowed(self, found: Found) -> None:
        """Raise BadInput for a model that this installation does not sell."""
        endpoint = found.card.endpoint
        if not self.allows(found):
            raise BadInput(
                f"{endpoint} is not allowed here; choose another, or have an operator allow it: "
                f"darkroom model allow {endpoint}",
                field="model",
                code="model_not_allowed",
            )

    def _packaged(self, endpoint: str) -> Found | None:
        if (packaged := packaged_cards().get(endpoint)) is None:
            return None
        allowed, call_usd = (None, None) if self._ledger is None else self._ledger.models.choice(endpoint)
        return Found(card=packaged, allowed=allowed, call_usd=call_usd)

    def _fetched(self, endpoint: str, fetch: FetchCard) -> Found | None:
        if (card := fetch(endpoint)) is None:
            return None
        self._keep(card)
        return self._on_record(endpoint) or Found(card=card)

    def _on_record(self, endpoint: str) -> Found | None:
        row = None if self._ledger is None else self._ledger.models.get(endpoint)
        if row is None:
            return None
        return Found(card=Card.of_row(row.card), allowed=row.allowed, call_usd=row.call_usd)

    def _keep(self, card: Card) -> None:
        if self._ledger is None:
            return
        try:
            self._ledger.models.keep([card.facts()])
        except DBAPIError as error:
            if not is_refused_write(error):  # a dry run only reads
                raise


def _is_whole(found: Found | None) -> bool:
    return found is not None and not (found.card.packaged and found.card.unit_price is None)


def _is_endpoint(text: str) -> bool:
    return len(text) <= LONGEST_ENDPOINT and bool(ENDPOINT.fullmatch(text))


def fetch_card(endpoint: str) -> Card | None:
    """Ask the platforms for a model. Return None where none knows it, or none can be asked now."""
    from darkroom.providers.registry import accounts

    for account in accounts().values():
        try:
            with account.platform() as platform:
                if platform is not None and (card := platform.card(endpoint)) is not None:
                    return card
        except DarkroomError as error:
            logger.warning("The card of a model could not be fetched from %s: %s", account.account_id, error.message)
    return None


def fetch_cost(card: Card) -> Decimal | None:
    """Ask the model's platform what a call usually comes to. Return None where it does not say, or not now."""
    from darkroom.providers.registry import accounts

    if (account := accounts().get(card.account_id)) is None:
        return None
    try:
        with account.platform() as platform:
            return None if platform is None else platform.usual_cost(card.endpoint)
    except DarkroomError as error:
        logger.warning("What %s usually costs could not be asked: %s", card.endpoint, error.message)
        return None


def keep_packaged(ledger: Ledger) -> None:
    """Put the packaged cards on record where there are none, so that they are listed before the platform was asked."""
    cards = packaged_cards().values()
    taken_at = max((card.fetched_at for card in cards if card.fetched_at is not None), default=None)
    ledger.models.keep([card.facts() for card in cards], fetched_at=taken_at, only_missing=True)


_PACKAGED = Shelf()
_open: list[Shelf] = []


def shelf() -> Shelf:
    """Return the shelf that is open, or the packaged cards alone."""
    return _open[-1] if _open else _PACKAGED


@contextmanager
def open_shelf(
    ledger: Ledger,
    *,
    models: str = ANY_MODEL,
    fetch: FetchCard | None = fetch_card,
    fetch_cost: FetchCost | None = fetch_cost,
) -> Iterator[Shelf]:
    """Have models looked up with that ledger inside the context. Without `fetch` no platform is asked for anything."""
    opened = Shelf(ledger, fetch=fetch, fetch_cost=fetch_cost if fetch else None, models=models)
    _open.append(opened)
    try:
        yield opened
    finally:
        _open.remove(opened)
