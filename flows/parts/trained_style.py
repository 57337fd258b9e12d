"""A LoRA in an order for pictures: found by its name, and what it changes about the call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from darkroom.errors import BadInput
from darkroom.ledger import Asset, Ledger
from darkroom.media.training_images import called

PAINTER = "fal-ai/flux-lora"


@dataclass(frozen=True, kw_only=True)
class Style:
    """A LoRA whose weights are in the store. `weights`: of a trial, the name of any."""

    trigger_word: str
    weights: Asset | str

    def applied(self, input: Mapping[str, Any], *, scale: float) -> dict[str, Any]:
        """Return the input with the LoRA in it, and its trigger word in the prompt.

        The word is put in front where it does not stand.
        """
        loras = [{"path": self.weights, "scale": scale}]
        return {**input, "prompt": called(input["prompt"], self.trigger_word), "loras": loras}


# Of some LoRA: to see whether the rest of an order is right.
TRIAL = Style(trigger_word="", weights="asset:ast_0")


def find_style(ledger: Ledger, user_id: str, name: str) -> Style:
    """Find the user's LoRA. Raise BadInput(field="lora") for what the user has not, whoever else may have it."""
    lora = ledger.loras.find(user_id, name)
    weights = None if lora is None else ledger.assets.get(lora.weights_asset_id)
    if lora is None or weights is None:
        words = "You have no LoRA of that id or trigger word. GET /v1/loras lists yours."
        raise BadInput(words, field="lora", code="no_such_lora")
    return Style(trigger_word=lora.trigger_word, weights=weights)
