"""What the gateway says of its blocks before it has read them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import SecretStr

from darkroom.deployments.gateway.loops import block_cache
from darkroom.orchestrator.api import PrefectApi
from darkroom.settings import Settings


def test_the_store_is_not_well_before_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the gateway is ready for a moment in which nobody has looked where environment and blocks differ."""
    said: list[dict[str, str | None]] = []
    settings = Settings(ledger_url="postgresql://nowhere/none", signing_key=SecretStr("a long random text"))
    watch = block_cache.PrefectBlockCache(settings, cast(PrefectApi, SimpleNamespace(is_up=lambda: True)))

    def opened(_: Settings) -> Any:
        said.append(dict(watch.readiness().problems))
        return SimpleNamespace(probe=lambda: None, is_at=lambda _: True)

    monkeypatch.setattr(block_cache._Accounts, "read", lambda *_: None)
    monkeypatch.setattr(block_cache, "open_media_store", opened)
    watch._refresh()

    assert [problems["media_store"] for problems in said] == ["not read yet"]
    assert watch.readiness().good
