"""Links to assets open one file, until they expire, and cannot be made without the key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr

from darkroom.errors import NeedsHuman
from darkroom.media.links import asset_url, link_holds
from darkroom.settings import Settings

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def settings(key: str = "a long random text", **values: str) -> Settings:
    return Settings(signing_key=SecretStr(key), **values)


def parts(url: str) -> tuple[int, str]:
    query = parse_qs(urlsplit(url).query)
    return int(query["expires"][0]), query["signature"][0]


def test_a_link_opens_the_asset_it_was_made_for() -> None:
    """What was signed verifies, and carries its expiry in the clear."""
    expires, signature = parts(asset_url("ast_1", settings(), lifetime=timedelta(hours=1), now=NOW))

    assert expires == (NOW + timedelta(hours=1)).timestamp()
    assert link_holds("ast_1", expires=expires, signature=signature, settings=settings())


@pytest.mark.parametrize(
    ("asset_id", "prolonged", "key", "cut"),
    [
        ("ast_2", 0, "a long random text", 0),  # another asset
        ("ast_1", 1, "a long random text", 0),  # a later end
        ("ast_1", 0, "another key", 0),
        ("ast_1", 0, "a long random text", 1),  # half a signature
        ("ast_1", 0, "a long random text", 64),  # none
    ],
)
def test_a_changed_link_does_not_hold(asset_id: str, prolonged: int, key: str, cut: int) -> None:
    """The signature covers the asset and the expiry, whole, under this installation's key."""
    expires, signature = parts(asset_url("ast_1", settings(), now=NOW))
    shorter = signature[: len(signature) - cut]

    assert not link_holds(asset_id, expires=expires + prolonged, signature=shorter, settings=settings(key))


def test_a_signature_may_be_any_text() -> None:
    """What strangers send is compared, not decoded: letters of any alphabet are only wrong."""
    assert not link_holds("ast_1", expires=1, signature="é\u2028", settings=settings())


def test_a_link_points_to_where_browsers_reach_the_gateway() -> None:
    """The public address where there is one, else the operators'."""
    assert asset_url("ast_1", settings(gateway_url="http://127.0.0.1:1/")).startswith(
        "http://127.0.0.1:1/v1/assets/ast_1?"
    )
    public = settings(public_url="https://media.example.com")
    assert asset_url("ast_1", public).startswith("https://media.example.com/v1/assets/ast_1?")


def test_without_a_key_nothing_is_signed() -> None:
    """Anybody could sign with an empty key, so there are no links then, and none holds."""
    with pytest.raises(NeedsHuman, match="DARKROOM_SIGNING_KEY"):
        asset_url("ast_1", settings(""))
    with pytest.raises(NeedsHuman, match="DARKROOM_SIGNING_KEY"):
        link_holds("ast_1", expires=1, signature="", settings=settings(""))
