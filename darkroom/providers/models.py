"""Everything that can be ordered, of every provider: the one place that knows them all.

Models of providers that publish cards are known by these, with a refinement where a card cannot say it; others in code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, partial
from typing import Any, cast

from darkroom.errors import BadInput, NeedsHuman
from darkroom.ledger import Request
from darkroom.models import CardModel, Path, packaged_cards
from darkroom.providers.base import Model, PictureModel
from darkroom.providers.registry import accounts
from darkroom.providers.shelf import Found, shelf
from darkroom.providers.web.model import MODELS as WEB

MOST_NAMED = 9


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
    """Return the model of that endpoint. Raise BadInput(field="model") for what nobody sells.

    Also one that is not allowed here: what is under way with it goes on. Who orders it asks `find_ordered`.
    """
    known = all_models().get(endpoint)
    return _of_card(_newest(endpoint)) if known is None else known


def find_ordered(endpoint: str) -> Ordered:
    """Return the model of that endpoint as it can be ordered today. Raise BadInput(field="model") if it cannot."""
    if (known := all_models().get(endpoint)) is not None:
        return Ordered(model=known)
    found = _newest(endpoint)
    shelf().require_allowed(found)
    # 0: the card is of no row of the ledger.
    return Ordered(model=_of_card(found), version=found.card.version or None)


def _newest(endpoint: str) -> Found:
    found = shelf().newest(endpoint)
    if found is None:
        raise BadInput(_unknown(endpoint), field="model")
    return found


def model_of(row: Request) -> Model:
    """Return the model of a call, by the card that it was checked and priced by."""
    return model_of_version(row.endpoint, row.model_version)


def model_of_version(endpoint: str, version: int | None) -> Model:
    """Return the model by that version of its card, whether it can be ordered or not."""
    if (known := all_models().get(endpoint)) is not None:
        return known
    card = None if version is None else shelf().version(endpoint, version)
    # No platform is asked: this is also looked up inside a webhook's transaction.
    if card is None and (found := shelf().newest(endpoint, first_use=False)) is not None:
        card = found.card
    if card is None:
        raise BadInput(_unknown(endpoint), field="model")
    return _of_card(Found(card=card))


def places_of_files(model: Model, input: Mapping[str, Any]) -> Sequence[Path] | None:
    """Return where an input names files, as far as the model's schema says it."""
    places: Callable[[Mapping[str, Any]], Sequence[Path]] | None = getattr(model, "file_places", None)
    return None if places is None else places(input)


def _of_card(found: Found) -> CardModel:
    account = accounts()[found.card.account_id]
    model = CardModel(
        card=found.card,
        hosts=account.file_hosts(),
        operators_usd=found.call_usd,
        # Asked only where the unit does not tell: the one is a query, the other a call to the platform.
        own_calls_usd=partial(shelf().usual_cost, found.card.endpoint),
        platform_usd=partial(shelf().platform_cost, found.card),
        own_time=shelf().usual_time(found.card.endpoint),
    )
    refine = account.refinements().get(found.card.endpoint)
    return model if refine is None else refine(model)


def _unknown(endpoint: str) -> str:
    known = [*packaged_cards(), *all_models()]
    near = get_close_matches(endpoint, known, n=1, cutoff=0.75)
    meant = f"; did you mean {near[0]}?" if near else ""
    return f"unknown model{meant}; GET /v1/models lists all, among them {', '.join(known[:MOST_NAMED])}"
