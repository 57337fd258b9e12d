"""The providers of an installation, each opened from its block when a call first needs it: most runs pay fal alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from darkroom.errors import NeedsHuman
from darkroom.providers.account import ProviderAccount
from darkroom.providers.base import Provider
from darkroom.providers.elevenlabs import ElevenLabsAccount
from darkroom.providers.fal import FalAccount
from darkroom.providers.fal.provider import FalProvider
from darkroom.providers.gemini import GeminiAccount
from darkroom.providers.mux import MuxAccount
from darkroom.providers.web import Reach, Web
from darkroom.providers.web.provider import WebProvider
from darkroom.settings import load_settings

# Those beside fal's, which an installation has or not: jobs that need none of them do without.
OTHERS: tuple[type[ProviderAccount], ...] = (GeminiAccount, ElevenLabsAccount, MuxAccount)

Opener = Callable[[], Provider]


def _fal() -> Provider:
    return FalProvider(FalAccount.load_default().client(), timing=load_settings().timing)


def _web() -> Provider:
    return WebProvider(Web(Reach.parse(load_settings().web_allow)))


def _opener(account: type[ProviderAccount]) -> Opener:
    return lambda: account.load_default().provider()


OPENERS: Mapping[str, Opener] = {
    "fal": _fal,
    "web": _web,
    **{account.account_id: _opener(account) for account in OTHERS},
}


class Providers:
    """By the id of the ledger's account. Thread-safe."""

    def __init__(self, openers: Mapping[str, Opener] = OPENERS) -> None:
        self._openers = openers
        self._opened: dict[str, Provider] = {}
        self._lock = threading.Lock()

    def of(self, account_id: str) -> Provider:
        """Return the provider of an account, and open it on first use. Raise NeedsHuman where its block is missing."""
        with self._lock:
            if account_id not in self._opened:
                if account_id not in self._openers:
                    raise NeedsHuman(f"Nobody knows how to pay the account '{account_id}'.", code="no_provider")
                self._opened[account_id] = self._openers[account_id]()
            return self._opened[account_id]

    def close(self) -> None:
        for provider in self._opened.values():
            provider.close()
