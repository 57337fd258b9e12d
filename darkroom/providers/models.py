"""Everything that can be ordered, of every provider: the one place that knows them all.

Some models are known in code, as far as their cards cannot say it; every other is known by its card.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from functools import cache, partial
from typing import Any, Protocol, cast, runtime_checkable

from darkroom.errors import BadInput, NeedsHuman
from darkroom.ledger import Request
from darkroom.models import Card, CardModel, Path, packaged_cards
from darkroom.providers.base import Model, PictureModel
from darkroom.providers.registry import accounts
from darkroom.providers.shelf import Found, shelf
from darkroom.providers.web.model import MODELS as WEB


@runtime_checkable
class Refined(Protocol):
    """A model of which code says what its card cannot."""

    def with_card(self, card: Card, *, own_time: timedelta | None = None) -> Model:
        """Return the model at the price of that card. `own_time`: within which nearly all of our calls have ended."""


@dataclass(frozen=True, kw_only=True)
class Ordered:
    """A model as it can be ordered today. `version`: of its card in the ledger; None for one without."""

    model: Model
    version: int | None = None


@cache
def all_models() -> Mapping[str, Model]:
    """Return the models that are known in code, by endpoint. Raise NeedsHuman where two providers sell the same."""
    found: dict[str, Model] = {model.endpoint: model for model in WEB}
    for account_id, account in accounts().items():
        models = account.models()
        if twice := sorted(found.keys() & models.keys()):
            raise NeedsHuman(
                f"The provider '{account_id}' has a model {twice[0]}, and so has '{found[twice[0]].account_id}'. "
                "Give it another endpoint, e.g. with the provider in front.",
                code="two_models",
            )
        found |= models
    return found


def find_picture_model(endpoint: str) -> PictureModel:
    """Return the model, which makes pictures. Raise BadInput(field="model") for any other."""
    model = find_model(endpoint)
    if not makes_pictures(model):
        raise BadInput(f"{endpoint} makes no pictures; order it with POST /v1/generations", field="model")
    return cast(PictureModel, model)


def makes_pictures(model: Model) -> bool:
    return bool(getattr(model, "makes_pictures", hasattr(model, "size")))


def find_model(endpoint: str) -> Model:
    """Return the model of that endpoint. Raise BadInput(field="model") for what nobody sells, or not here."""
    return find_ordered(endpoint).model


def find_ordered(endpoint: str) -> Ordered:
    """Return the model of that endpoint as it can be ordered today. Raise BadInput(field="model")."""
    known = all_models().get(endpoint)
    if known is not None and not isinstance(known, Refined):
        return Ordered(model=known)
    found = shelf().newest(endpoint)
    if found is None:
        if known is not None:
            return Ordered(model=known)
        raise BadInput(_unknown(endpoint), field="model")
    shelf().require_allowed(found)
    return Ordered(model=_of_card(found, known), version=found.card.version or None)


def model_of(row: Request) -> Model:
    """Return the model of a call, by the card that it was checked and priced by."""
    return model_of_version(row.endpoint, row.model_version)


def model_of_version(endpoint: str, version: int | None) -> Model:
    """Return the model by that version of its card, whether it can be ordered or not."""
    known = all_models().get(endpoint)
    if known is not None and not isinstance(known, Refined):
        return known
    card = None if version is None else shelf().version(endpoint, version)
    if card is None and known is None:
        found = shelf().newest(endpoint, first_use=False)
        card = None if found is None else found.card
    if card is not None:
        return _of_card(Found(card=card), known)
    if known is None:
        raise BadInput(_unknown(endpoint), field="model")
    return known


def places_of_files(model: Model, input: Mapping[str, Any]) -> Sequence[Path] | None:
    """Return where an input names files, as far as the model's schema says it."""
    places: Callable[[Mapping[str, Any]], Sequence[Path]] | None = getattr(model, "file_places", None)
    return None if places is None else places(input)


def _of_card(found: Found, known: Model | None) -> Model:
    if isinstance(known, Refined):
        return known.with_card(found.card, own_time=shelf().usual_time(found.card.endpoint))
    return CardModel(
        card=found.card,
        hosts=accounts()[found.card.account_id].file_hosts(),
        operators_usd=found.call_usd,
        own_calls_usd=partial(shelf().usual_cost, found.card.endpoint),
        platform_usd=partial(shelf().platform_cost, found.card),
        own_time=shelf().usual_time(found.card.endpoint),
    )


def _unknown(endpoint: str) -> str:
    near = get_close_matches(endpoint, [*all_models(), *packaged_cards()], n=1, cutoff=0.75)
    meant = f"; did you mean {near[0]}?" if near else ""
    return f"unknown model{meant}; GET /v1/models lists all, among them {', '.join(all_models())}"
