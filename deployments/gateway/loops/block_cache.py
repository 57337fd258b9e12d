"""What the gateway has from Prefect: the accounts and the media store, read from their blocks by its own thread.

So no order and no webhook ever waits for Prefect: with it out, the gateway starts, takes orders, and keeps what it has
read. The thread looks at Prefect every few seconds and reads the blocks again every minute, because they can be edited
in its UI; what it found is what `/readyz` shows.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Protocol, Self

from darkroom.errors import DarkroomError, NeedsHuman, Retry
from darkroom.media.store import MediaStore, open_media_store, store_block_slug
from darkroom.orchestrator.api import PrefectApi, block_document
from darkroom.providers.account import ProviderAccount
from darkroom.providers.base import Provider
from darkroom.providers.registry import accounts
from darkroom.settings import Settings

logger = logging.getLogger(__name__)

SECONDS_TO_FINISH = 5.0  # a call to Prefect may hang for longer


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """What is wrong with each thing looked at, None where nothing is; and where environment and blocks differ."""

    problems: Mapping[str, str | None]
    differences: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return not any(self.problems.values())


class BlockCache(Protocol):
    """What endpoints have from the blocks. Raises Retry while it could not be read yet."""

    def account(self, account_id: str) -> ProviderAccount | None:
        """Return the account's block, as far as it is known."""

    def provider(self, account_id: str) -> Provider: ...

    def store(self) -> MediaStore: ...

    def secret(self, name: str) -> str:
        """Return what the block `secret/<name>` says."""

    def readiness(self) -> Readiness: ...


class _Accounts:
    """The accounts' blocks, and a client of each that is made anew only when its block says otherwise."""

    def __init__(self) -> None:
        self._blocks: dict[str, ProviderAccount] = {}
        self._missing: set[str] = set()  # that were not there when they were looked at last
        self._providers: dict[str, tuple[ProviderAccount, Provider]] = {}
        self._opened = ExitStack()
        self._lock = threading.Lock()  # else two endpoints that ask at once would each make a client

    def read(self, kind: type[ProviderAccount]) -> None:
        """Read the block. Raise NeedsHuman where there is none."""
        # What it said before is used on: webhooks of what was sent with it still count.
        try:
            self._blocks[kind.account_id] = kind.load_default()
            self._missing.discard(kind.account_id)
        except NeedsHuman as error:
            if error.code == "no_account":
                self._missing.add(kind.account_id)
            raise

    def block(self, account_id: str) -> ProviderAccount | None:
        return self._blocks.get(account_id)

    def existing(self, account_id: str) -> ProviderAccount | None:
        """Return the block as it was when it was looked at last; None where it was not there."""
        return None if account_id in self._missing else self._blocks.get(account_id)

    def provider(self, account_id: str) -> Provider:
        with self._lock:
            block = self._blocks.get(account_id)
            if block is None:
                raise Retry(f"the block of the account {account_id} could not be read yet", code="block_unread")
            made = self._providers.get(account_id)
            if made is None or not made[0].same_as(block):
                made = self._providers[account_id] = block, block.provider()
                # The old one may be in use: it is closed with the rest.
                self._opened.callback(made[1].close)
            return made[1]

    def close(self) -> None:
        self._opened.close()


class _Secrets:
    """The blocks of Prefect's type Secret that somebody has asked for, as they were read last."""

    def __init__(self, api: PrefectApi) -> None:
        self._api = api
        self._values: dict[str, str | None] = {}  # None: not read yet, or not there

    def value(self, name: str) -> str:
        value = self._values.setdefault(name, None)  # what is asked for is read from now on
        if value is None:
            raise Retry(f"the block secret/{name} is not there, or could not be read yet", code="block_unread")
        return value

    @property
    def unread(self) -> bool:
        return None in self._values.values()

    def read(self) -> None:
        """Read all of them anew."""
        for name in list(self._values):  # a copy: endpoints add names meanwhile
            said = (block_document(self._api, f"secret/{name}") or {}).get("value")
            self._values[name] = said if isinstance(said, str) else None  # one that is gone opens nothing any more


class PrefectBlockCache:
    def __init__(self, settings: Settings, api: PrefectApi) -> None:
        self._settings = settings
        self._timing = settings.timing
        self._api = api
        self._accounts = _Accounts()
        self._secrets = _Secrets(api)
        self._store: MediaStore | None = None
        self._others: list[str] = []
        self._required = [kind for kind in accounts().values() if kind.required]
        names = ("prefect", *(f"{kind.account_id}_account" for kind in self._required), "media_store")
        self._problems: dict[str, str | None] = dict.fromkeys(names, "not read yet")
        self._read_at = self._probed_at = float("-inf")
        self._stopping = threading.Event()
        # A daemon, as a call to Prefect that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="block-cache", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join(SECONDS_TO_FINISH)
        self._accounts.close()

    def account(self, account_id: str) -> ProviderAccount | None:
        return self._accounts.block(account_id)

    def provider(self, account_id: str) -> Provider:
        return self._accounts.provider(account_id)

    def store(self) -> MediaStore:
        if self._store is None:
            raise Retry("the media store's block could not be read yet", code="block_unread")
        return self._store

    def secret(self, name: str) -> str:
        return self._secrets.value(name)

    def readiness(self) -> Readiness:
        found = differences(self._settings, store=self._store) + self._others
        return Readiness(problems=dict(self._problems), differences=tuple(found))

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._refresh()
            rest = self._timing.prefect_watched if self.readiness().good else self._timing.prefect_missed
            self._stopping.wait(rest.total_seconds())

    def _refresh(self) -> None:
        self._check("prefect", self._api.is_up)
        # Also while Prefect is out. Not before it was opened below: all would be well before what differs is known.
        store = self._store
        if store is not None and time.monotonic() - self._probed_at >= self._timing.store_probed.total_seconds():
            self._check("media_store", partial(self._probe, store))
        if self._problems["prefect"]:
            return  # it would give no block either, and each would be waited for; what they said before is used on
        if self._secrets.unread:  # a hook waits for it, and all is read once a minute only
            self._read_secrets()
        # While something is missing all is read at every look, so that a stack which starts is ready sooner.
        if self.readiness().good and time.monotonic() - self._read_at < self._timing.blocks_read.total_seconds():
            return
        self._read_secrets()
        for kind in self._required:
            self._check(f"{kind.account_id}_account", partial(self._accounts.read, kind))
        self._read_others()  # before the last check: who sees that all is well sees what differs, too
        self._check("media_store", self._open_and_probe_store)
        self._read_at = time.monotonic()

    def _read_secrets(self) -> None:
        # As below: a hook whose secret is not known says so to whoever calls it.
        with suppress(Exception):
            self._secrets.read()

    def _read_others(self) -> None:
        # Whatever Prefect's client raises: that Prefect is out shows in the checks, and these are none.
        with suppress(Exception):
            for kind in accounts().values():
                if not kind.required and (kind.sends_webhooks(self._settings) or kind.given(self._settings)):
                    with suppress(NeedsHuman):  # that it is not there, `account_differences` tells
                        self._accounts.read(kind)
            self._others = account_differences(self._settings, self._accounts.existing)

    def _open_and_probe_store(self) -> None:
        self._store = open_media_store(self._settings)
        self._probe(self._store)

    def _probe(self, store: MediaStore) -> None:
        store.probe()
        self._probed_at = time.monotonic()

    def _check(self, name: str, check: Callable[[], object]) -> None:
        try:
            check()
            problem = None
        except DarkroomError as error:
            problem = error.message
        except Exception as error:
            # Whatever Prefect's client raises: the thread goes on, and the reason shows by name.
            problem = f"cannot be read ({type(error).__name__})"
        if problem and problem != self._problems[name]:  # once, and not at every look
            logger.warning("%s: %s", name, problem)
        self._problems[name] = problem


def differences(settings: Settings, *, store: MediaStore | None) -> list[str]:
    """Return where the environment says otherwise than the store's block, which rules: worth knowing, no failure."""
    if store and not store.is_at(settings.media_store):
        slug = store_block_slug(settings.media_store)
        return [f"DARKROOM_STORE is not the place of the block {slug}, which is used"]
    return []


def account_differences(settings: Settings, block: Callable[[str], ProviderAccount | None]) -> list[str]:
    """Return the same of the accounts that the environment names."""
    # That one which must be there is not there, or could not be read yet, is among the problems.
    given = [account for kind in accounts().values() if (account := kind.given(settings))]
    pairs = [(account, block(account.account_id)) for account in given]
    return [
        said
        for account, existing in pairs
        if (existing or not account.required) and (said := difference(account, existing))
    ]


def difference(given: ProviderAccount, existing: ProviderAccount | None) -> str | None:
    variables = " and ".join(given.variables)
    if existing is None:
        return f"There is no block {given.slug()} for {variables}: run `darkroom provision`"
    if existing.same_as(given):
        return None
    return f"The block {given.slug()}, which is used, differs from {variables}"
