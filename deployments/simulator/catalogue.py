"""The models there are at this moment. Operators add, rename and withdraw some while it runs, and change their prices.

The list is ordered as fal's is, newest first, and paged by number: a model that is added between two pages shifts the
rest by one, so that the next page begins with what the last one ended with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from .cards.card import Card
from .cards.crowd import crowd, newcomer, odd_cards
from .endpoints import ENDPOINTS, Endpoint, by_schema


class Catalogue:
    def __init__(self, *, crowd_size: int = 0) -> None:
        cards = (*crowd(crowd_size), *odd_cards())
        self._packaged = {card.endpoint: by_schema(card) for card in cards} | dict(ENDPOINTS)
        self._listed = dict(self._packaged)
        self._known = dict(self._packaged)  # those that were taken away too: requests of theirs may be under way
        self._comers = 0
        self.grows = 0  # after so many reads of the list one model more is in front; below zero: one less

    def reset(self) -> None:
        """Have the models that it began with."""
        self._listed = dict(self._packaged)
        self._known |= self._packaged
        self.grows = 0

    @property
    def endpoints(self) -> Mapping[str, Endpoint]:
        """Return all that there are or were, by id, live."""
        return MappingProxyType(self._known)

    def cards(self) -> list[Card]:
        """Return them newest first. Afterwards one comes or goes, where that was asked for."""
        found = [endpoint.card for endpoint in reversed(self._listed.values())]
        if self.grows > 0:
            self.grows -= 1
            self._comers += 1
            self.add(newcomer(self._comers))
        elif self.grows < 0:
            self.grows += 1
            if found:
                self.remove(found[0].endpoint)
        return found

    def card(self, endpoint: str) -> Card | None:
        found = self._listed.get(endpoint)
        return found.card if found else None

    def some(self, endpoints: Iterable[str]) -> list[Card]:
        """Return those of that name that there are."""
        return [card for name in dict.fromkeys(endpoints) if (card := self.card(name))]

    def add(self, card: Card, *, pace: float | None = None) -> None:
        """Put a model in front, in place of one of the same name."""
        # Taken out first: what is put in last is at the front of the list.
        self._listed.pop(card.endpoint, None)
        self._put(by_schema(card, pace=pace))

    def change(self, endpoint: str, **fields: Any) -> Card | None:
        """Change the card where it stands. None: there is no such model."""
        if (found := self._listed.get(endpoint)) is None:
            return None
        card = replace(found.card, **fields)
        # What was made for the one schema does not know another.
        own: dict[str, Any] = {"make": None, "check": None} if fields.keys() & {"input", "output", "components"} else {}
        self._put(replace(found, card=card, **own))
        return card

    def _put(self, endpoint: Endpoint) -> None:
        self._listed[endpoint.card.endpoint] = self._known[endpoint.card.endpoint] = endpoint

    def rename(self, endpoint: str, to: str) -> Card | None:
        """Put the model in front under its new name, and mark the old one as deprecated: it goes on answering."""
        if (old := self.card(endpoint)) is None:
            return None
        self.change(endpoint, status="deprecated")
        # Without its document: the paths in it have the old name.
        renamed = replace(old, endpoint=to, document=None, date=datetime.now(UTC))
        self.add(renamed, pace=self._known[endpoint].pace)
        return renamed

    def remove(self, endpoint: str) -> bool:
        return self._listed.pop(endpoint, None) is not None
