"""Cards of models, each version by version: what a job was checked and priced by stays on record."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, insert

from darkroom.ledger.canonical_json import dumps
from darkroom.ledger.database import plain, run
from darkroom.ledger.model_tables import ModelCard
from darkroom.ledger.part import Part

Facts = Mapping[str, Any]
# What a card that lacks it keeps of the one before: a platform fails to give a schema or a price now and then.
LASTING = ("input_schema", "output_schema", "unit", "unit_price", "usual_seconds")
_SPECIAL = re.compile(r"[\\%_]")  # in a pattern of LIKE


@dataclass(frozen=True, kw_only=True)
class KnownModel:
    """A card, and what an operator says of the model."""

    card: ModelCard
    allowed: bool | None
    call_usd: Decimal | None


@dataclass(frozen=True, kw_only=True)
class CardsAge:
    """How many cards there are, how many of them are the packaged ones, and when the platform was last asked."""

    cards: int
    packaged: int
    newest: datetime | None


class Models(Part):
    def keep(self, cards: Sequence[Facts], *, fetched_at: datetime | None = None, only_missing: bool = False) -> int:
        """Keep what is new in these cards as new versions; return how many are.

        `only_missing`: leave models alone of which there is a card.
        """
        now = self._now()
        with self._engine.begin() as connection:
            run(connection, "models_lock")  # else two who fetch the same would both make its next version
            known = _newest(connection, [card["endpoint"] for card in cards])
            if only_missing:
                cards = [card for card in cards if card["endpoint"] not in known]
            rows = [_next_version(card, known.get(card["endpoint"]), at=fetched_at or now) for card in cards]
            changed = [row for row in rows if row["version"] > _version(known.get(row["endpoint"]))]
            new = {row["endpoint"] for row in changed}
            run(connection, "model_supersede", endpoints=list(new), now=now)
            if changed:
                connection.execute(insert(ModelCard), changed)
            same = [row["endpoint"] for row in rows if row["endpoint"] not in new]
            run(connection, "model_seen", endpoints=same, now=fetched_at or now)
            return len(changed)

    def get(self, endpoint: str, *, version: int | None = None) -> KnownModel | None:
        """Return the card of that version, without one the newest."""
        row = self._run("model_get", endpoint=endpoint, version=version).one_or_none()
        return None if row is None else _known(row)

    def categories(self) -> dict[str, int]:
        """Return how many models each category has, by its name."""
        with self._engine.begin() as connection:
            return {row.category: row.models for row in run(connection, "models_categories")}

    def choice(self, endpoint: str) -> tuple[bool | None, Decimal | None]:
        """Return what an operator says of the model: whether it is allowed, and what a call costs."""
        row = self._run("model_choice_get", endpoint=endpoint).one_or_none()
        return (None, None) if row is None else (row.allowed, row.call_usd)

    def page(
        self,
        *,
        q: str | None = None,
        category: str | None = None,
        status: str | None = None,
        limit: int,
        after: str = "",
    ) -> list[KnownModel]:
        """Return a page of the newest cards by endpoint, those after the one named. `q`: a part of name or words."""
        pattern = None if q is None else f"%{_SPECIAL.sub(_escaped, q)}%"
        asked = {"q": pattern, "category": category, "status": status, "limit": limit, "after": after}
        return [_known(row) for row in self._run("models_page", **asked)]

    def allow(self, endpoint: str, allowed: bool | None) -> None:
        """Allow or deny a model, whatever the setting says. None: as the setting says."""
        self._choose(endpoint, "allowed", allowed=allowed, call_usd=None)

    def price(self, endpoint: str, call_usd: Decimal | None) -> None:
        """Say what a call of the model is taken to cost. None: as its card says."""
        self._choose(endpoint, "price", allowed=None, call_usd=call_usd)

    def usual_cost(self, endpoint: str) -> Decimal | None:
        """Return what nine in ten of the last calls came to at most; None where there were hardly any."""
        found = self._run("model_usual_cost", endpoint=endpoint).scalar_one_or_none()
        return None if found is None else Decimal(str(found))

    def usual_seconds(self, endpoint: str) -> float | None:
        """Return within how long 19 in 20 of the last calls had ended; None where there were hardly any."""
        found = self._run("model_usual_seconds", endpoint=endpoint).scalar_one_or_none()
        return None if found is None else float(found)

    def age(self) -> CardsAge:
        return CardsAge(**self._run("models_ages").one()._mapping)

    def _choose(self, endpoint: str, about: str, *, allowed: bool | None, call_usd: Decimal | None) -> None:
        self._run("model_choose", endpoint=endpoint, about=about, allowed=allowed, call_usd=call_usd)


def _escaped(found: re.Match[str]) -> str:
    return f"\\{found[0]}"


def _newest(connection: Connection, endpoints: Sequence[str]) -> dict[str, ModelCard]:
    found = run(connection, "models_of", endpoints=list(endpoints))
    return {row.endpoint: plain(ModelCard, row) for row in found}


def _next_version(facts: Facts, known: ModelCard | None, *, at: datetime) -> dict[str, Any]:
    """Return the row that the card is: the next version, or the known one where nothing has changed."""
    row = dict(facts)
    if known is not None:
        for name in LASTING:
            row[name] = getattr(known, name) if row[name] is None else row[name]
    digest = _digest(row)
    version = _version(known) + (known is None or known.digest != digest)
    return {**row, "version": version, "digest": digest, "fetched_at": at}


def _version(card: ModelCard | None) -> int:
    return 0 if card is None else card.version


def _digest(row: Facts) -> str:
    """Return the hash of what a card says; that it came with Darkroom is no difference."""
    price = row["unit_price"]
    # 0.50 and 0.5 are one price.
    said = {**row, "unit_price": None if price is None else str(Decimal(price).normalize())}
    return hashlib.sha256(dumps({name: said[name] for name in sorted(said) if name != "packaged"}).encode()).hexdigest()


def _known(row: Row[Any]) -> KnownModel:
    facts = dict(row._mapping)
    allowed, call_usd = facts.pop("allowed"), facts.pop("call_usd")
    return KnownModel(card=ModelCard.model_construct(**facts), allowed=allowed, call_usd=call_usd)
