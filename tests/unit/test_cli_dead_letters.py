"""Which failed jobs the options of a command mean: read once, said over HTTP and to the ledger alike."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from darkroom.clock import utc_now
from darkroom.deployments.cli.dead_letters import Which, which
from darkroom.errors import BadInput

NOON = datetime.fromisoformat("2030-01-01T12:00:00+01:00")


def read(*, since: str | None = None, before: str | None = None) -> Which:
    return which(None, None, None, None, None, since, before, False)


@pytest.mark.parametrize(("text", "ago"), [("2h", timedelta(hours=2)), ("1d12h", timedelta(days=1.5))])
def test_a_time_may_be_how_long_ago(text: str, ago: timedelta) -> None:
    """As everywhere else that a duration is written."""
    since = read(since=text).since
    assert since is not None
    assert abs(utc_now() - ago - since) < timedelta(seconds=5)


def test_a_time_without_a_zone_is_this_machines() -> None:
    """One with a zone is what it says."""
    assert read(since="2030-01-01T12:00:00+01:00").since == NOON
    assert read(since="2030-01-01T11:00:00Z").since == NOON
    assert read(before="2030-01-01").until == datetime(2030, 1, 1).astimezone()


@pytest.mark.parametrize("text", ["yesterday", "2", "", "99999999w", "2030-13-01", "h"])
def test_what_is_no_time_is_refused_by_the_name_of_its_option(text: str) -> None:
    """With an example of each way to write one."""
    with pytest.raises(BadInput, match="2h, 1d or 2030") as refused:
        read(before=text)
    assert refused.value.field == "--failed-before"


def test_over_http_only_what_was_said_is_sent() -> None:
    """Under the names of the API."""
    assert not read().is_given
    assert read().over_http() == {}
    given = Which(user="ann", error_class="retry", since=NOON, discarded=True)
    said = {"user": "ann", "class": "retry", "failed_since": NOON.isoformat(), "discarded": True}
    assert given.over_http() == said
