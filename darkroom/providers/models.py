"""Everything that can be ordered, of every provider: the one place that knows them all."""

from __future__ import annotations

from collections.abc import Mapping

from darkroom.errors import BadInput
from darkroom.providers.base import Model
from darkroom.providers.elevenlabs.model import CATALOGUE as ELEVENLABS
from darkroom.providers.fal import CATALOGUE as FAL
from darkroom.providers.gemini.model import CATALOGUE as GEMINI
from darkroom.providers.mux.model import CATALOGUE as MUX
from darkroom.providers.web.model import MODELS as WEB

MODELS: Mapping[str, Model] = {**FAL, **GEMINI, **ELEVENLABS, **MUX, **{model.endpoint: model for model in WEB}}


def find_model(endpoint: str) -> Model:
    """Find the model of an endpoint. Raise BadInput(field="model") for what nobody sells."""
    try:
        return MODELS[endpoint]
    except KeyError:
        raise BadInput(f"unknown model; choose one of {', '.join(MODELS)}", field="model") from None
