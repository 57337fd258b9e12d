"""Accepted events in Prefect's feed: all of them, oldest first, whatever Prefect makes of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest
from ledger_databases import Db
from reconciling import knows_of_nothing, resources_of, turn

from darkroom.clock import utc_now
from darkroom.errors import Permanent, Retry
from darkroom.events.feed import CHUNK, publish_some
from darkroom.ledger import Ledger, NewEvent
from darkroom.orchestrator import Announcement, Orchestrator


@dataclass
class Feed:
    """In place of Prefect: refuses calls with one of these ids in them, or all while it is out."""

    refused: frozenset[str] = frozenset()
    is_out: bool = False
    heard: list[str] = field(default_factory=list)

    def announce(self, announcements: Sequence[Announcement]) -> None:
        if self.is_out:
            raise Retry("Prefect's API answered 503")
        if self.refused & {each.id for each in announcements}:
            raise Permanent("Prefect's API answered 422")
        self.heard += [each.id for each in announcements]


@pytest.fixture
def event_ids(ledger: Ledger) -> list[str]:
    """As they came in: more than go there in one call."""
    user_id = ledger.users.add("ann").user_id
    event = NewEvent(name="order.placed", user_id=user_id, owner_id=user_id, data={})
    received, _ = ledger.events.receive("ann", [event] * (CHUNK + 5), matches=lambda condition, data: True)
    return [each.id for each in received]


def tell(ledger: Ledger, feed: Feed) -> int:
    return publish_some(ledger, cast(Orchestrator, feed), before=utc_now())


def test_every_accepted_event_is_told_once(ledger: Ledger, event_ids: list[str]) -> None:
    """A chunk at a time."""
    feed = Feed()
    assert [tell(ledger, feed) for _ in range(3)] == [CHUNK, 5, 0]
    assert sorted(feed.heard) == sorted(event_ids)


def test_one_that_prefect_refuses_keeps_none_of_the_others(ledger: Ledger, event_ids: list[str]) -> None:
    """It is passed over, and not sent again for ever."""
    feed = Feed(refused=frozenset(event_ids[7:9]))
    assert [tell(ledger, feed) for _ in range(3)] == [CHUNK, 5, 0]
    assert sorted(feed.heard) == sorted(set(event_ids) - feed.refused)


def test_what_was_not_told_is_told_when_prefect_is_back(ledger: Ledger, event_ids: list[str]) -> None:
    """None of it is taken for told."""
    feed = Feed(is_out=True)
    with pytest.raises(Retry):
        tell(ledger, feed)
    feed.is_out = False
    assert tell(ledger, feed) + tell(ledger, feed) == len(event_ids)


def test_reconcile_tells_what_no_gateway_has_told(ledger: Ledger, event_ids: list[str], db: Db) -> None:
    """What came in a moment ago is left to the gateway."""
    late = event_ids[:-1]
    db.execute("UPDATE event SET received_at = now() - interval '5 minutes' WHERE id = ANY(%s)", [late])
    feed = Feed()
    orchestrator = knows_of_nothing()
    orchestrator.announce.side_effect = feed.announce
    turn(resources_of(ledger, orchestrator=orchestrator))
    assert sorted(feed.heard) == sorted(late)
