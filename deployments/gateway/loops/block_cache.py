"""What the gateway has from Prefect: the fal account and the media store, read from their blocks by its own thread.

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
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from darkroom.errors import DarkroomError, NeedsHuman, Retry
from darkroom.media.store import MediaStore, open_media_store, store_block_slug
from darkroom.orchestrator.api import PrefectApi
from darkroom.providers.account import ProviderAccount
from darkroom.providers.fal import DEFAULT_ACCOUNT, Fal, FalAccount
from darkroom.providers.registry import OTHERS
from darkroom.settings import Settings

logger = logging.getLogger(__name__)

SECONDS_TO_FINISH = 5.0  # a call to Prefect may hang for longer


@dataclass(frozen=True, kw_only=True)
class Report:
    """What is wrong with each thing looked at, None where nothing is; and where environment and blocks differ."""

    problems: Mapping[str, str | None]
    differences: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return not any(self.problems.values())


class Blocks(Protocol):
    """What endpoints have from the blocks. Raises Retry while it could not be read yet."""

    @property
    def fal_user_id(self) -> str | None: ...

    def fal(self) -> Fal: ...

    def store(self) -> MediaStore: ...

    def report(self) -> Report: ...


@dataclass
class _Account:
    """The account's block, and a client for it that is made anew only when the key changes."""

    block: FalAccount | None = None
    client: Fal | None = None
    opened: ExitStack = field(default_factory=ExitStack)

    def read(self) -> None:
        block = FalAccount.load_default()
        if self.client is None or self.block is None or self.block.key != block.key:
            # The old one may be in use: it is closed with the rest.
            client = block.client()
            self.opened.callback(client.close)
            self.client = client
        self.block = block


class Watch:
    def __init__(self, settings: Settings, api: PrefectApi) -> None:
        self._settings = settings
        self._timing = settings.timing
        self._api = api
        self._account = _Account()
        self._store: MediaStore | None = None
        self._others: list[str] = []
        self._problems: dict[str, str | None] = dict.fromkeys(("prefect", "fal_account", "media_store"), "not read yet")
        self._read_at = float("-inf")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join(SECONDS_TO_FINISH)
        self._account.opened.close()

    @property
    def fal_user_id(self) -> str | None:
        return self._account.block.user_id if self._account.block else None

    def fal(self) -> Fal:
        if self._account.client is None:
            raise Retry(f"the block {DEFAULT_ACCOUNT} could not be read yet", code="block_unread")
        return self._account.client

    def store(self) -> MediaStore:
        if self._store is None:
            raise Retry("the media store's block could not be read yet", code="block_unread")
        return self._store

    def report(self) -> Report:
        found = differences(self._settings, account=self._account.block, store=self._store) + self._others
        return Report(problems=dict(self._problems), differences=tuple(found))

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._look()
            rest = self._timing.prefect_watched if self.report().good else self._timing.prefect_missed
            self._stopping.wait(rest.total_seconds())

    def _look(self) -> None:
        self._check("prefect", self._api.is_up)
        if self.report().good and time.monotonic() - self._read_at < self._timing.blocks_read.total_seconds():
            return
        self._check("fal_account", self._account.read)
        self._check("media_store", self._open_store)
        self._read_others()
        self._read_at = time.monotonic()

    def _read_others(self) -> None:
        # Whatever Prefect's client raises: that Prefect is out shows in the checks, and these are none.
        with suppress(Exception):
            self._others = other_differences(self._settings)

    def _open_store(self) -> None:
        self._store = open_media_store(self._settings)

    def _check(self, name: str, look: Callable[[], object]) -> None:
        try:
            look()
            problem = None
        except DarkroomError as error:
            problem = error.message
        except Exception as error:
            # Whatever Prefect's client raises: the thread goes on, and the reason shows by name.
            problem = f"cannot be read ({type(error).__name__})"
        if problem and problem != self._problems[name]:
            logger.warning("%s: %s", name, problem)
        self._problems[name] = problem


def differences(settings: Settings, *, account: FalAccount | None, store: MediaStore | None) -> list[str]:
    """Where the environment says otherwise than the blocks. Those rule, so it is no failure, but worth knowing."""
    found = []
    key = settings.fal_key
    if key and account and key.get_secret_value().strip() != account.key.get_secret_value().strip():
        found.append(f"FAL_KEY is not the key of the block {DEFAULT_ACCOUNT}, which is used")
    if store and not store.is_at(settings.media_store):
        found.append(
            f"DARKROOM_STORE is not the place of the block {store_block_slug(settings.media_store)}, which is used"
        )
    return found


def other_differences(settings: Settings) -> list[str]:
    """Of the accounts that the environment names beside fal's: only jobs that need one miss it."""
    given = [account for kind in OTHERS if (account := kind.given(settings))]
    return [said for account in given if (said := difference(account, _existing(type(account))))]


def difference(given: ProviderAccount, existing: ProviderAccount | None) -> str | None:
    variables = " and ".join(given.variables)
    if existing is None:
        return f"There is no block {given.slug()} for {variables}: run `darkroom provision`"
    if existing.same_as(given):
        return None
    return f"The block {given.slug()}, which is used, differs from {variables}"


def _existing(kind: type[ProviderAccount]) -> ProviderAccount | None:
    try:
        return kind.load_default()
    except NeedsHuman:
        return None
