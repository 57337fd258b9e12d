"""Whose an upload is, by its token."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from darkroom.deployments.simulator.book import ACCOUNTS
from darkroom.deployments.simulator.upload_tokens import UploadTokens

ANN, OTHER = ACCOUNTS["sim:key"], ACCOUNTS["sim:other"]
SOON = datetime.now(UTC) + timedelta(hours=1)


def test_a_token_is_good_in_a_new_process(tmp_path: Path) -> None:
    """As at fal: a client holds it for an hour, whatever is started anew meanwhile."""
    tokens = [UploadTokens(tmp_path).issue(account, ends=SOON) for account in (ANN, OTHER)]
    assert [UploadTokens(tmp_path).account_of(token) for token in tokens] == [ANN, OTHER]


def test_a_token_that_was_not_given_out_is_nobodys(tmp_path: Path) -> None:
    """Made up, of another simulator, or over."""
    tokens = UploadTokens(tmp_path / "ours")
    own = tokens.issue(ANN, ends=SOON)
    strange = UploadTokens(tmp_path / "theirs").issue(ANN, ends=SOON)
    over = tokens.issue(ANN, ends=datetime.now(UTC) - timedelta(seconds=1))
    swapped = own.replace(ANN.user_id, OTHER.user_id)
    assert [tokens.account_of(each) for each in ("", ".", "ä.b.c", strange, over, swapped)] == [None] * 6
