"""The providers of an installation, each opened from its block when a call first needs it: most runs pay fal alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from blocks.accounts import OTHERS
from blocks.credentials import ProviderAccount
from blocks.errors import NeedsHuman
from blocks.fal import FalAccount
from blocks.fal.provider import FalProvider
from blocks.provider import Provider
from blocks.settings import load_settings
from blocks.web import Reach, Web
from blocks.web.provider import WebProvider

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
        """Raises NeedsHuman where its block is missing."""
        with self._lock:
            if account_id not in self._opened:
                if account_id not in self._openers:
                    raise NeedsHuman(f"Nobody knows how to pay the account '{account_id}'.", code="no_provider")
                self._opened[account_id] = self._openers[account_id]()
            return self._opened[account_id]

    def close(self) -> None:
        for provider in self._opened.values():
            provider.close()
