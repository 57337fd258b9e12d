"""The providers of this installation: those that come with Darkroom, and those of installed packages.

A package registers its account by an entry point of the group `darkroom.providers`. Each provider is opened from its
block when a call first needs it: most runs pay fal alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from darkroom.errors import NeedsHuman
from darkroom.providers.account import ProviderAccount
from darkroom.providers.base import Provider
from darkroom.settings import Settings, load_settings

Opener = Callable[[], Provider]
GROUP = "darkroom.providers"
# By name, so that nobody outside its folder knows any of them; fal first, as its account is the one that must be there.
BUILT_IN = (
    "darkroom.providers.fal.account:FalAccount",
    "darkroom.providers.gemini.account:GeminiAccount",
    "darkroom.providers.elevenlabs.account:ElevenLabsAccount",
    "darkroom.providers.mux.account:MuxAccount",
)
WEB = "web"  # addresses that users give: nobody's account, and no block


@cache
def accounts() -> Mapping[str, type[ProviderAccount]]:
    """Return the accounts by their ids. Raise NeedsHuman for a package whose provider cannot be used."""
    found: dict[str, type[ProviderAccount]] = {}
    for name in BUILT_IN:
        module, _, attribute = name.partition(":")
        account = getattr(import_module(module), attribute)
        found[account.account_id] = account
    for point in entry_points(group=GROUP):
        account = _load(point)
        if account.account_id in found or account.account_id == WEB:
            raise NeedsHuman(f"{point.value}: there is a provider '{account.account_id}' already", code="two_providers")
        found[account.account_id] = account
    return found


def _load(point: EntryPoint) -> type[ProviderAccount]:
    try:
        account = point.load()
    except Exception as error:
        raise NeedsHuman(f"The provider {point.value} cannot be imported: {error}", code="no_provider") from error
    if not (isinstance(account, type) and issubclass(account, ProviderAccount)):
        raise NeedsHuman(f"{point.value} is no ProviderAccount", code="no_provider")
    return account


def heard_from(settings: Settings) -> frozenset[str]:
    """Return the accounts from which we hear how a call ended without polling: by webhook, or in the answer itself."""
    heard = {WEB, *(account_id for account_id, account in accounts().items() if account.immediate)}
    if settings.public_url is not None:
        heard |= {account_id for account_id, account in accounts().items() if account.sends_webhooks(settings)}
    return frozenset(heard)


def may_pass(account_id: str, code: str) -> bool:
    """Return whether a failure at that provider may pass, by what is known of its code today."""
    account = accounts().get(account_id)
    return account is not None and account.may_pass(code)


def openers() -> Mapping[str, Opener]:
    """Return how each provider is opened, by the id of the ledger's account."""
    return {WEB: _web, **{account_id: _opener(account) for account_id, account in accounts().items()}}


def _web() -> Provider:
    from darkroom.providers.web import Reach, Web
    from darkroom.providers.web.provider import WebProvider

    return WebProvider(Web(Reach.parse(load_settings().web_allow)))


def _opener(account: type[ProviderAccount]) -> Opener:
    return lambda: account.load_default().provider()


class Providers:
    """Opens providers by the id of the ledger's account, each once. Thread-safe."""

    def __init__(self, given: Mapping[str, Opener] | None = None) -> None:
        self._openers = openers() if given is None else given
        self._opened: dict[str, Provider] = {}
        self._lock = threading.Lock()

    def of(self, account_id: str) -> Provider:
        """Return the provider of that account. Raise NeedsHuman where its block is missing."""
        # Also while it is opened, so that threads which come at once have one client.
        with self._lock:
            if account_id not in self._opened:
                if account_id not in self._openers:
                    raise NeedsHuman(f"Nobody knows how to pay the account '{account_id}'.", code="no_provider")
                self._opened[account_id] = self._openers[account_id]()
            return self._opened[account_id]

    def close(self) -> None:
        for provider in self._opened.values():
            provider.close()
