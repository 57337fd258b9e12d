"""What is known of the providers of an installation: who is polled, and which block is used."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from darkroom.deployments.gateway.loops.block_cache import _Accounts
from darkroom.engine.polling import Poller
from darkroom.errors import NeedsHuman, Park
from darkroom.providers.elevenlabs.provider import Speech
from darkroom.providers.fal import FalAccount
from darkroom.providers.gemini.provider import Gemini
from darkroom.providers.registry import accounts, heard_from
from darkroom.settings import Settings
from darkroom.timing import UNSCALED

ANSWERS = {"web", "gemini", "elevenlabs"}  # whose answer is the outcome
PUBLIC: dict[str, Any] = {"public_url": "https://media.example.com"}
SECRET: dict[str, Any] = {"mux_webhook_secret": SecretStr("signing")}


@pytest.mark.parametrize(
    ("given", "heard"),
    [
        ({}, ANSWERS),
        (SECRET, ANSWERS),
        (PUBLIC, ANSWERS | {"fal"}),
        (PUBLIC | SECRET, ANSWERS | {"fal", "mux"}),
    ],
)
def test_who_does_not_notify_us_is_polled(given: dict[str, Any], heard: set[str]) -> None:
    """Without a public address everybody is, but for those whose answer is the outcome."""
    assert heard_from(Settings(**given)) == heard


def test_an_account_says_of_its_provider_what_that_does() -> None:
    """The one is known without importing the other's client."""
    immediate = {account_id for account_id, account in accounts().items() if account.immediate}
    assert immediate == {"gemini", "elevenlabs"}
    assert Gemini.immediate and Speech.immediate


def test_a_run_does_not_ask_the_ledger_for_calls_that_nobody_polls() -> None:
    """It would every second, in every run."""
    resources: Any = SimpleNamespace(timing=UNSCALED, settings=Settings(**PUBLIC, **SECRET))
    Poller(resources, "run_1").ask_all()  # there is no ledger to ask
    with pytest.raises(AttributeError, match="ledger"):
        Poller(SimpleNamespace(timing=UNSCALED, settings=Settings()), "run_1").ask_all()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "is_there"),
    [
        (NeedsHuman("There is none.", code="no_account"), False),
        (NeedsHuman("Prefect's API refused our auth string."), True),
        (Park("Prefect is out."), True),
    ],
)
def test_a_block_that_cannot_be_read_any_more_is_used_on(
    error: Exception, is_there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Webhooks of what was sent with it still come; that it is gone is told all the same."""
    block = FalAccount(key=SecretStr("a:key"))
    read: list[FalAccount | Exception] = [block, error]

    def load_default() -> FalAccount:
        found = read.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(FalAccount, "load_default", load_default)
    known = _Accounts()
    known.read(FalAccount)
    with pytest.raises(type(error)):
        known.read(FalAccount)
    assert known.block("fal") is block
    assert known.provider("fal") is known.provider("fal")
    assert (known.existing("fal") is block) is is_there
    known.close()
