"""Everything that can be ordered, of every provider: the one place that knows them all."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import cast

from darkroom.errors import BadInput, NeedsHuman
from darkroom.providers.base import Model, PictureModel
from darkroom.providers.registry import accounts
from darkroom.providers.web.model import MODELS as WEB


@cache
def all_models() -> Mapping[str, Model]:
    """Return the models by endpoint. Raise NeedsHuman where two providers sell one under the same name."""
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
    if not hasattr(model, "size"):
        raise BadInput(f"{endpoint} makes no pictures", field="model")
    return cast(PictureModel, model)


def find_model(endpoint: str) -> Model:
    """Return the model of that endpoint. Raise BadInput(field="model") for what nobody sells."""
    models = all_models()
    try:
        return models[endpoint]
    except KeyError:
        raise BadInput(f"unknown model; choose one of {', '.join(models)}", field="model") from None
