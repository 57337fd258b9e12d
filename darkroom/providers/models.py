"""Everything that can be ordered, of every provider: the one place that knows them all."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import cast

from darkroom.errors import BadInput
from darkroom.providers.base import Model, PictureModel
from darkroom.providers.registry import accounts
from darkroom.providers.web.model import MODELS as WEB


@cache
def all_models() -> Mapping[str, Model]:
    """Return the models by endpoint."""
    found: dict[str, Model] = {}
    for account in accounts().values():
        found |= account.models()
    return found | {model.endpoint: model for model in WEB}


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
