"""Accepted events in Prefect's feed, where automations and people see them: a trickle beside what wakes runs.

Prefect hands every event to its automations by one queue, in memory, that drops what does not fit. The events that
resume suspended runs go through it too, so a flood of ours would hold them up, or cost them. What was not told stands
in the ledger, and is told later.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from darkroom.errors import Permanent
from darkroom.events.types import FEED
from darkroom.ledger import Event, Ledger
from darkroom.orchestrator import Announcement, Orchestrator

logger = logging.getLogger(__name__)

CHUNK = 50  # events in one call to Prefect


def publish_some(ledger: Ledger, orchestrator: Orchestrator, *, before: datetime) -> int:
    """Publish the oldest events that came in before that time and are unpublished. Return how many, or 0.

    Raises what the orchestrator raises: then none of them is noted as published.
    """
    events = ledger.events.unpublished(before=before, limit=CHUNK)
    if events:
        _announce(orchestrator, events)
        # Only then: told twice is told once, as the id in the feed is made from the event's.
        ledger.events.published([event.id for event in events])
    return len(events)


def _announce(orchestrator: Orchestrator, events: Sequence[Event]) -> None:
    """Publish the events. Pass over one that Prefect will not have, so that none of the others is kept back."""
    try:
        orchestrator.announce([announcement(event) for event in events])
    except Permanent as error:
        if len(events) == 1:
            logger.warning("Event %s is not in Prefect's feed: %s", events[0].id, error)
            return
        half = len(events) // 2
        _announce(orchestrator, events[:half])
        _announce(orchestrator, events[half:])


def announcement(event: Event) -> Announcement:
    """Convert an event for Prefect's feed."""
    payload = {
        "id": event.id,
        "name": event.name,
        "v": event.version,
        "data": event.data,
        "occurred_at": event.occurred_at.isoformat(),
    }
    # `occurred` is when it came in: Prefect forgets events by that, and a sender's clock may say anything.
    return Announcement(
        id=event.id, name=FEED + event.name, user_id=event.user_id, payload=payload, occurred=event.received_at
    )
