"""What a request for a file gets: which part of it, whether it is shown, and whether it is sent at all."""

from __future__ import annotations

import pytest

from darkroom.deployments.gateway.problems import Problem
from darkroom.deployments.gateway.ranges import asked_part, has_it
from darkroom.deployments.gateway.routes.assets import disposition
from darkroom.ledger import Asset

TAG = '"abc"'


@pytest.mark.parametrize(
    ("asked", "if_range", "part"),
    [
        ("bytes=0-0", "", (0, 1)),
        ("bytes=10-", "", (10, 100)),
        ("bytes=90-1000", "", (90, 100)),
        ("bytes=-5", "", (95, 100)),
        ("bytes=-500", "", (0, 100)),
        ("Bytes = 1-2 ", "", (1, 3)),
        ("bytes=1-2", TAG, (1, 3)),
        ("bytes=1-2", '"old"', None),
        ("bytes=1-2", f"W/{TAG}", None),
        ("bytes=1-2", "Wed, 21 Oct 2015 07:28:00 GMT", None),
        ("bytes=1-2,4-5", "", None),
        ("bytes=5-2", "", None),
        ("bytes=-", "", None),
        ("bytes=x-", "", None),
        ("items=0-1", "", None),
        ("bytes=٣-", "", None),
        ("", "", None),
    ],
)
def test_one_range_of_bytes_is_a_part_and_anything_else_is_the_whole(
    asked: str, if_range: str, part: tuple[int, int] | None
) -> None:
    """As RFC 9110 has it: what a server does not understand of `Range` it passes over."""
    assert asked_part(asked, if_range, tag=TAG, size=100) == part


@pytest.mark.parametrize("asked", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_beyond_the_file_is_refused_with_its_size(asked: str) -> None:
    """416, so that a player that was wrong learns how much there is."""
    with pytest.raises(Problem) as caught:
        asked_part(asked, "", tag=TAG, size=100)
    assert (caught.value.status_code, caught.value.headers) == (416, {"Content-Range": "bytes */100"})


@pytest.mark.parametrize(
    ("said", "has"), [(TAG, True), (f'"x", W/{TAG}', True), ("*", True), ("", False), ("abc", False), ('"abcd"', False)]
)
def test_who_has_the_file_is_known_by_its_tag(said: str, has: bool) -> None:
    """Among several, weak or not; a tag is compared as a whole."""
    assert has_it(said, TAG) is has


@pytest.mark.parametrize(
    ("content_type", "read", "shown"),
    [
        ("image/jpeg", True, "inline"),
        ("video/mp4", True, "inline"),
        ("image/jpeg", False, "attachment"),  # nobody knows what it is
        ("image/svg+xml", True, "attachment"),
        ("text/html", True, "attachment"),
        ("application/xml", True, "attachment"),
        ("application/pdf", True, "attachment"),
        ("text/javascript", True, "attachment"),
    ],
)
def test_only_what_cannot_run_is_shown_in_a_browser(content_type: str, read: bool, shown: str) -> None:
    """Everything else is a download, whatever is said of its type."""
    asset = Asset(key="images/u/j/made-0.x", content_type=content_type, width=64 if read else None)
    assert disposition(asset) == f'{shown}; filename="made-0.x"'


def test_a_file_name_cannot_break_out_of_its_header() -> None:
    """Quotes, line ends and whatever no key has are replaced."""
    asset = Asset(key='a/b/x"; filename=evil\r\né.png', content_type="image/png", width=1)
    assert disposition(asset) == 'inline; filename="x___filename=evil___.png"'
