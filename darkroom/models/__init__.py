"""What is known of a model as data: its card, what its schema accepts, what it costs, and where its answer has files.

A card comes from a provider's platform (or the packaged snapshot) and is a plain value; which provider, nobody here
knows.
"""

from __future__ import annotations

from darkroom.models.card import Card
from darkroom.models.checking import InputProblem, WrongInput, check_input
from darkroom.models.flags import with_flags
from darkroom.models.model import CardModel, Refinement
from darkroom.models.outputs import rest_of
from darkroom.models.prices import TOO_DEAR, Estimate, NoPrice, is_a_count, picture_count
from darkroom.models.schemas import ASSET, Path, file_places, picture_field, self_contained
from darkroom.models.snapshot import packaged_cards

__all__ = [
    "ASSET",
    "TOO_DEAR",
    "Card",
    "CardModel",
    "Estimate",
    "InputProblem",
    "NoPrice",
    "Path",
    "Refinement",
    "WrongInput",
    "check_input",
    "file_places",
    "is_a_count",
    "packaged_cards",
    "picture_count",
    "picture_field",
    "rest_of",
    "self_contained",
    "with_flags",
]
