"""The blocks that the environment may name and `darkroom provision` makes."""

from __future__ import annotations

from darkroom.blocks.notifier import Notifier
from darkroom.blocks.payments import PaymentAccount
from darkroom.providers.account import Configured
from darkroom.providers.registry import accounts


def configured() -> list[type[Configured]]:
    """Return the accounts of all providers, ours and those of installed packages, and the other blocks."""
    return [*accounts().values(), Notifier, PaymentAccount]
