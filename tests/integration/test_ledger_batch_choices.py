"""A batch's question and its choice, beside each other."""

from __future__ import annotations

from datetime import timedelta

import pytest
from batch_scenes import end_all, order
from interleaving import overlap
from ledger_databases import Db

from darkroom.ledger import Audience, Batch, Job, Ledger

HOUR = timedelta(hours=1)


@pytest.fixture
def batch(ledger: Ledger) -> Job:
    """One whose first pass is over, and of which nobody was asked yet."""
    batch = order(ledger, ledger.users.add("ann").user_id, 2).job
    end_all(ledger, batch)
    return batch


def test_a_choice_that_comes_as_the_question_is_put_on_record_counts(ledger: Ledger, db: Db, batch: Job) -> None:
    """Whoever sees that the drafts are done may be faster than the commit."""
    overlap(
        db,
        lambda: ledger.batches.await_selection(batch.id, patience=None),
        lambda: ledger.batches.choose(batch.id, [1], via="api"),
        at="UPDATE ON batch",
    )
    found = ledger.batches.get(batch.id)
    assert found is not None and found.winners == [1]


def test_a_question_that_two_put_on_record_at_once_is_told_once(ledger: Ledger, db: Db, batch: Job) -> None:
    """A run's process and the one that was thought dead; and the time for an answer is the first one's."""

    def ask(patience: timedelta) -> Batch:
        return ledger.batches.await_selection(batch.id, patience=patience)

    first, second = overlap(db, lambda: ask(HOUR), lambda: ask(2 * HOUR), at="UPDATE ON batch")
    assert second == first
    news = ledger.news.of(Audience(user_id=batch.user_id), after=0, until=ledger.news.now(), limit=100)
    assert [each.event for each in news].count("batch.awaiting_choice") == 1
