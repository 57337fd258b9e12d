"""What is known of the providers of an installation: who is polled, and which block is used."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from pydantic import SecretStr

from darkroom.deployments.gateway.loops.block_cache import _Accounts
from darkroom.engine.polling import Poller
from darkroom.errors import NeedsHuman, Park
from darkroom.providers.account import KeyAccount
from darkroom.providers.elevenlabs.provider import Speech
from darkroom.providers.fal import FalAccount
from darkroom.providers.gemini.provider import Gemini
from darkroom.providers.prefect_blocks import block_class
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


def test_what_a_provider_says_of_itself_is_its_block_and_how_the_environment_says_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also one of a package, whose variables Darkroom's settings do not know."""

    class ShopAccount(KeyAccount):
        account_id = "shop"
        title = "Shop"
        keys_at = "https://shop.example.com/keys"
        said_by: ClassVar[Mapping[str, str]] = {
            "token": "SHOP_TOKEN",
            "secret": "SHOP_SECRET",
            "user_id": "DARKROOM_FAL_USER_ID",
        }

        token: SecretStr
        secret: SecretStr | None = None
        user_id: str | None = None

    assert (ShopAccount.slug(), ShopAccount.variables) == ("shop-account/default", ("SHOP_TOKEN",))
    assert block_class(ShopAccount).get_block_type_slug() == "shop-account"
    monkeypatch.setenv("SHOP_SECRET", "whsec")
    assert ShopAccount.given(Settings()) is None
    monkeypatch.setenv("SHOP_TOKEN", "token")
    expected = ShopAccount(token=SecretStr("token"), secret=SecretStr("whsec"), user_id="user")
    assert ShopAccount.given(Settings(fal_user_id="user")) == expected


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
