"""The time zone of the day's report, as somebody has typed it."""

from __future__ import annotations

import pytest

from darkroom.errors import BadInput
from darkroom.flows.daily_report import _zone


@pytest.mark.parametrize(
    "name", ["Europe", "Nowhere/Town", "/etc/passwd", "", ".", "x" * 300, "Europe/\0", "Köln\udc80"]
)
def test_what_is_no_time_zone_is_refused(name: str) -> None:
    """Also a folder of them, and what no file can be called; the refusal stays short."""
    with pytest.raises(BadInput, match="There is no time zone") as caught:
        _zone(name)
    assert caught.value.field == "time_zone"
    assert len(caught.value.message) < 150
