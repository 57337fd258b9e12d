"""The blocks that the environment may name and `darkroom provision` makes."""

from __future__ import annotations

from darkroom.blocks.notifier import Notifier
from darkroom.blocks.payments import PaymentAccount
from darkroom.providers.account import Configured
from darkroom.providers.registry import OTHERS

CONFIGURED: tuple[type[Configured], ...] = (*OTHERS, Notifier, PaymentAccount)
