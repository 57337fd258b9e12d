"""Whose a request is that fal has and no row of ours knows: told by its input and its time, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from darkroom.ledger import Request
from darkroom.providers.fal.lost_submits import WINDOW
from darkroom.providers.pairing import Sent, pair

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
FOX = {"prompt": "a fox", "guidance_scale": 3.0}
BOX = {"prompt": "a box"}


def row(ref: str, at: float = 0, given: Mapping[str, Any] = FOX) -> Request:
    return Request(ref=ref, submitted_at=NOON + timedelta(seconds=at), input=dict(given))


def sent(request_id: str, at: float = 0.2, given: Mapping[str, Any] = FOX) -> Sent:
    return Sent(request_id=request_id, sent_at=NOON + timedelta(seconds=at), input=given)


@pytest.mark.parametrize(
    ("rows", "there", "expected"),
    [
        pytest.param([row("a")], [sent("1")], {"a": "1"}, id="one and one"),
        pytest.param([row("a")], [], {}, id="it never arrived"),
        pytest.param([row("a")], [sent("1", given=BOX)], {}, id="another input"),
        pytest.param(
            [row("a")], [sent("1", given={"guidance_scale": 3, "prompt": "a fox"})], {"a": "1"}, id="3 is 3.0"
        ),
        pytest.param([row("a")], [sent("1", given=FOX | {"guidance_scale": True})], {}, id="true is no number"),
        pytest.param([row("a")], [sent("1", at=-4)], {"a": "1"}, id="fal's clock is behind"),
        pytest.param([row("a")], [sent("1", at=-6)], {}, id="sent before our POST"),
        pytest.param([row("a")], [sent("1", at=34)], {"a": "1"}, id="taken at the end of our patience"),
        pytest.param([row("a")], [sent("1", at=36)], {}, id="sent after our POST"),
        pytest.param([row("a"), row("b", 1)], [sent("2", 1.2), sent("1")], {"a": "1", "b": "2"}, id="two and two"),
        pytest.param([row("a"), row("b", 1)], [sent("1")], {}, id="one of two arrived"),
        pytest.param([row("a")], [sent("1"), sent("2", 3)], {}, id="somebody else sent the same"),
        pytest.param([row("a"), row("b", 90)], [sent("2", 91)], {"b": "2"}, id="times that do not overlap"),
        pytest.param(
            [row("a"), row("b", given=BOX)], [sent("1"), sent("2", given=BOX)], {"a": "1", "b": "2"}, id="two inputs"
        ),
    ],
)
def test_a_request_is_adopted_only_where_it_can_be_no_others(
    rows: list[Request], there: list[Sent], expected: dict[str, str]
) -> None:
    """By equal input, and by having been sent while the row's POST was under way."""
    assert pair(rows, there, window=WINDOW) == expected
