"""Where cards are looked up: the ledger, then the platform on a model's first use, then what came with Darkroom.

One shelf is open in a process while it works with a ledger (`open_shelf`): a model is asked for in many places that
know none.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Generic, TypeVar

from sqlalchemy.exc import DBAPIError

from darkroom.errors import BadInput, DarkroomError
from darkroom.ledger import OUTAGES, KnownModel, Ledger, is_refused_write
from darkroom.models import Card, packaged_cards
from darkroom.settings import ANY_MODEL

logger = logging.getLogger(__name__)

FRESH_SECONDS = 10.0  # then prices and an operator's word may be others, and who did not answer may do so
PLATFORM_COST_SECONDS = 3600.0  # that it does not say is known for as long
USUAL_SECONDS_KEPT = 300.0  # of the last 200 calls, so a few more hardly move it
MOST_KEPT = 4096  # more than a platform has models: beyond that they are names which somebody made up
ENDPOINT = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+){1,7}")
LONGEST_ENDPOINT = 200

FetchCard = Callable[[str], Card | None]
FetchCost = Callable[[Card], Decimal | None]
Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class Found:
    """A card, and what an operator says of its model."""

    card: Card
    allowed: bool | None = None
    call_usd: Decimal | None = None


class _Kept(Generic[Answer]):
    """Answers by endpoint, each with the time from which on it is asked for anew."""

    def __init__(self, *, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds, self._clock = seconds, clock
        self._answers: dict[str, tuple[float, Answer | None]] = {}

    def last(self, endpoint: str) -> tuple[bool, Answer | None]:
        """Return whether nobody has to be asked yet, and what the last answer was; None is one, too."""
        until, answer = self._answers.get(endpoint, (float("-inf"), None))
        return self._clock() < until, answer

    def keep(self, endpoint: str, answer: Answer | None) -> None:
        self._keep(endpoint, answer, self._seconds)

    def keep_failed(self, endpoint: str) -> None:
        """Keep the last answer, for a moment: whoever was asked did not answer."""
        self._keep(endpoint, self.last(endpoint)[1], FRESH_SECONDS)

    def _keep(self, endpoint: str, answer: Answer | None, seconds: float) -> None:
        if len(self._answers) >= MOST_KEPT:
            self._answers.clear()
        self._answers[endpoint] = self._clock() + seconds, answer


class Shelf:
    """Thread-safe. `fetch`: asks the platform for a card; `fetch_cost`: what its calls cost, raises DarkroomError.

    `models`: the setting of that name.
    """

    def __init__(
        self,
        ledger: Ledger | None = None,
        *,
        fetch: FetchCard | None = None,
        fetch_cost: FetchCost | None = None,
        models: str = ANY_MODEL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._fetch, self._fetch_cost = fetch, fetch_cost
        self._globs = [each.strip() for each in models.split(",") if each.strip()]
        self._newest = _Kept[Found](seconds=FRESH_SECONDS, clock=clock)
        self._versions: dict[tuple[str, int], Card] = {}  # for good: a version never changes
        self._seconds = _Kept[float](seconds=USUAL_SECONDS_KEPT, clock=clock)
        self._costs = _Kept[Decimal](seconds=FRESH_SECONDS, clock=clock)
        self._platform_costs = _Kept[Decimal](seconds=PLATFORM_COST_SECONDS, clock=clock)
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
            # Whoever waited here finds what the first one has fetched.
            is_fresh, found = self._known(endpoint)
            if is_fresh or _is_whole(found):
                return found
            found = self._fetched(endpoint, self._fetch) or found
            # Also that there is none, so that a wrong name is not asked for again at once.
            with self._lock:
                self._newest.keep(endpoint, found)
            return found

    def _known(self, endpoint: str) -> tuple[bool, Found | None]:
        """Return what is known here, and whether it was looked up a moment ago; that nothing is, is known too."""
        with self._lock:
            is_fresh, found = self._newest.last(endpoint)
            if is_fresh:
                return True, found
            if _is_whole(found := self._on_record(endpoint) or self._packaged(endpoint)):
                self._newest.keep(endpoint, found)
            return False, found

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
        return self._of_ledger(self._costs, endpoint, lambda ledger: ledger.models.usual_cost(endpoint))

    def platform_cost(self, card: Card) -> Decimal | None:
        """Return what a call usually comes to as its provider's platform says, which is asked once an hour."""
        with self._lock:
            is_fresh, cost = self._platform_costs.last(card.endpoint)
        if is_fresh or self._fetch_cost is None:
            return cost
        # Not the other lock: a platform may take seconds, and known models do not wait for it.
        with self._first_use:
            with self._lock:
                is_fresh, cost = self._platform_costs.last(card.endpoint)
            return cost if is_fresh else self._fetched_cost(card, self._fetch_cost)

    def _fetched_cost(self, card: Card, fetch: FetchCost) -> Decimal | None:
        try:
            cost = fetch(card)
        except DarkroomError as error:
            # That it did not answer does not mean that it has nothing to say: for an hour every estimate was a guess.
            logger.warning("What %s usually costs could not be asked: %s", card.endpoint, error.message)
            with self._lock:
                self._platform_costs.keep_failed(card.endpoint)
                return self._platform_costs.last(card.endpoint)[1]
        with self._lock:
            self._platform_costs.keep(card.endpoint, cost)
        return cost

    def usual_time(self, endpoint: str) -> timedelta | None:
        """Return within how long 19 in 20 of our last calls had ended, as it was some minutes ago at most."""
        seconds = self._of_ledger(self._seconds, endpoint, lambda ledger: ledger.models.usual_seconds(endpoint))
        return None if seconds is None else timedelta(seconds=seconds)

    def _of_ledger(self, kept: _Kept[Answer], endpoint: str, ask: Callable[[Ledger], Answer | None]) -> Answer | None:
        """Return what the ledger says, as it is kept here; while it is out, what it said last."""
        with self._lock:
            is_fresh, answer = kept.last(endpoint)
            if is_fresh or self._ledger is None:
                return answer
            try:
                answer = ask(self._ledger)
            except OUTAGES:
                kept.keep_failed(endpoint)
            else:
                kept.keep(endpoint, answer)
            return answer

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
    # Anybody may name a model, and each name that could be one is a call to the platform.
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
    """Ask the model's platform what a call usually comes to. Return None where it does not say."""
    from darkroom.providers.registry import accounts

    if (account := accounts().get(card.account_id)) is None:
        return None
    with account.platform() as platform:
        return None if platform is None else platform.usual_cost(card.endpoint)


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
