"""The report of a day: its numbers are the ledger's."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from ledger_databases import Db

from darkroom.flows.parts.day_report import headline, markdown, span, title
from darkroom.ledger import JobStatus, Ledger, PeriodUsage
from darkroom.ledger.usage import Spent

UTC_ZONE, BERLIN = ZoneInfo("UTC"), ZoneInfo("Europe/Berlin")
DAY = date(2026, 11, 19)  # a Thursday
NOON = datetime(2026, 11, 19, 12, tzinfo=UTC)

# Three pictures of ann's and one failed, one of bob's; one a day before, one a minute after midnight.
SCENE = """
    INSERT INTO "user" (id, name, plan, notified, created_at) VALUES
        ('ann', 'ann', 'pro', 0, now()), ('bob', 'bob|x', 'pro', 0, now());
    INSERT INTO job (id, user_id, kind, status, parameters, error, created_at, finished_at) VALUES
        ('j1', 'ann', 'generate-image', 'completed', '{}', NULL, '2026-11-19 08:00Z', '2026-11-19 08:00:30Z'),
        ('j2', 'ann', 'generate-image', 'completed', '{}', NULL, '2026-11-19 08:10Z', '2026-11-19 08:10:30Z'),
        ('j3', 'ann', 'generate-image', 'failed', '{}', '{"class": "permanent", "code": "content_policy"}',
            '2026-11-19 09:00Z', '2026-11-19 09:00:10Z'),
        ('j4', 'bob', 'make-debate', 'completed', '{}', NULL, '2026-11-18 23:59Z', '2026-11-19 00:00:00Z'),
        ('j5', 'bob', 'make-debate', 'completed', '{}', NULL, '2026-11-18 23:00Z', '2026-11-18 23:59:59Z'),
        ('j6', 'bob', 'generate-image', 'cancelled', '{}', NULL, '2026-11-19 23:00Z', '2026-11-20 00:00:00Z');
    INSERT INTO request (ref, job_id, user_id, account_id, step, attempt, endpoint, input, input_hash, lane, status,
        token, request_id, estimate_usd, cost_usd, created_at, granted_at, submitted_at, finished_at, reused_from)
    VALUES
        ('r1', 'j1', 'ann', 'fal', 'generate', 1, 'fal-ai/flux/dev', '{}', '', 1, 'succeeded', 't1', 'p1', 0.025, 0.025,
            '2026-11-19 08:00Z', '2026-11-19 08:00Z', '2026-11-19 08:00:10Z', '2026-11-19 08:00:20Z', NULL),
        ('r2', 'j2', 'ann', 'fal', 'generate', 1, 'fal-ai/flux/dev', '{}', '', 1, 'succeeded', 't2', NULL, 0.025, 0,
            '2026-11-19 08:10Z', NULL, NULL, '2026-11-19 08:10:20Z', 'r1'),
        ('r3', 'j3', 'ann', 'fal', 'generate', 1, 'fal-ai/flux/dev', '{}', '', 1, 'failed', 't3', 'p3', 0.025, 0,
            '2026-11-19 09:00Z', '2026-11-19 09:00Z', '2026-11-19 09:00Z', '2026-11-19 09:00:10Z', NULL),
        ('r4', 'j4', 'bob', 'fal', 'film', 1, 'fal-ai/kling', '{}', '', 1, 'succeeded', 't4', 'p4', 0.5, 0.5,
            '2026-11-18 23:00Z', '2026-11-18 23:00Z', '2026-11-18 23:59:30Z', '2026-11-19 00:00:00Z', NULL),
        ('r5', 'j5', 'bob', 'fal', 'film', 1, 'fal-ai/kling', '{}', '', 1, 'succeeded', 't5', 'p5', 0.5, 0.5,
            '2026-11-18 23:00Z', '2026-11-18 23:00Z', '2026-11-18 23:00Z', '2026-11-18 23:59:59Z', NULL),
        ('r6', 'j6', 'bob', 'fal', 'generate', 1, 'fal-ai/flux/dev', '{}', '', 1, 'in_flight', 't6', 'p6', 0.025, NULL,
            '2026-11-19 23:00Z', '2026-11-19 23:59:40Z', '2026-11-19 23:59:40Z', NULL, NULL);
    INSERT INTO delivery (provider, request_id, ref, verdict, body_sha256, cost_usd, received_at) VALUES
        ('fal', 'p1', 'r1', 'duplicate', '', 0.025, '2026-11-19 10:00Z'),
        ('fal', 'p1', 'r1', 'settled', '', NULL, '2026-11-19 08:00:20Z');
"""


@pytest.fixture
def figures(ledger: Ledger, db: Db) -> PeriodUsage:
    for statement in SCENE.split(";\n")[:-1]:
        db.execute(statement)
    return ledger.usage.between(*span(DAY, now=NOON, zone=UTC_ZONE))


def test_what_ended_within_the_day_counts_and_nothing_else(figures: PeriodUsage) -> None:
    """Its first moment belongs to it, that of the next day does not."""
    assert figures.ordered == 4
    assert figures.jobs == {
        ("generate-image", JobStatus.COMPLETED): 2,
        ("generate-image", JobStatus.FAILED): 1,
        ("make-debate", JobStatus.COMPLETED): 1,
    }
    busy = [(hour.hour, completed, failed) for hour, completed, failed in figures.hours if completed + failed]
    assert (len(figures.hours), busy) == (24, [(0, 1, 0), (8, 2, 0), (9, 0, 1)])
    (failure,) = figures.failures
    assert (failure.kind, failure.code, failure.jobs) == ("permanent", "content_policy", 1)
    assert (failure.discarded, failure.latest) == (0, "j3")


def test_money_is_told_by_user_and_model_with_what_was_paid_twice_and_saved(figures: PeriodUsage) -> None:
    """To the cent: the sum is that of the calls and the duplicates."""
    assert [(each.user, each.endpoint, each.calls, each.cost_usd) for each in figures.spent] == [
        ("bob|x", "fal-ai/kling", 1, Decimal("0.5")),
        ("ann", "fal-ai/flux/dev", 1, Decimal("0.025")),
    ]
    assert (figures.duplicates, figures.duplicates_usd) == (1, Decimal("0.025"))
    assert (figures.reused, figures.saved_usd) == (1, Decimal("0.025"))
    assert figures.spent_usd == Decimal("0.55")


def test_a_call_that_may_have_been_paid_is_told_beside_the_sum(ledger: Ledger, db: Db, figures: PeriodUsage) -> None:
    """It was given up and sent once more: nobody may read that nothing was paid twice."""
    assert "perhaps paid" not in markdown(figures, UTC_ZONE)
    db.execute("UPDATE request SET status = 'expired', cost_usd = NULL WHERE ref = 'r3'")
    unseen = ledger.usage.between(*span(DAY, now=NOON, zone=UTC_ZONE))
    assert (unseen.perhaps_paid, unseen.perhaps_paid_usd) == (1, Decimal("0.025"))
    assert unseen.spent_usd == figures.spent_usd
    assert "1 call was perhaps paid, which nobody knows yet: about 0.025 USD" in markdown(unseen, UTC_ZONE)


def test_a_call_that_was_billed_at_nothing_keeps_its_price(ledger: Ledger, db: Db, figures: PeriodUsage) -> None:
    """The report says what the usage of the day does: a price is final with its call."""
    db.execute("UPDATE request SET billed_usd = 0, markup = 2 WHERE ref = 'r1'")
    span_of_day = span(DAY, now=NOON, zone=UTC_ZONE)
    report = ledger.usage.between(*span_of_day)
    assert report.price_usd == ledger.spending.between(*span_of_day, group_by="user").total.price_usd
    assert report.price_usd == Decimal("0.55")
    assert report.spent_usd == figures.spent_usd - Decimal("0.025")


def test_latency_and_slots_are_of_the_day(figures: PeriodUsage) -> None:
    """A call that lasts over midnight holds its slot on both days, one that is under way until now."""
    assert {each.endpoint: (each.calls, each.median_seconds) for each in figures.latency} == {
        "fal-ai/flux/dev": (1, 10.0),
        "fal-ai/kling": (1, 30.0),
    }
    (fal,) = figures.slots
    assert fal.held_seconds == pytest.approx(20 + 10 + 20)
    assert fal.share == pytest.approx(50 / (86_400 * 10))
    assert fal.most == 1


def test_the_most_slots_at_once_are_counted(ledger: Ledger, db: Db, figures: PeriodUsage) -> None:
    """Two beside each other are two, one after the other is one, be it at the same moment."""
    begin = datetime(2026, 11, 19, 15, tzinfo=UTC)
    for n, (since, until) in enumerate([(0, 10), (5, 15), (15, 20), (10, 12)]):
        db.execute(
            f"""INSERT INTO request (ref, job_id, user_id, account_id, step, attempt, endpoint, input, input_hash, lane,
            status, token, estimate_usd, created_at, granted_at, finished_at) VALUES
            ('s{n}', 'j1', 'ann', 'fal', 's{n}', 1, 'm', '{{}}', '', 1, 'failed', 'u{n}', 0, now(),
            '{begin + timedelta(seconds=since)}', '{begin + timedelta(seconds=until)}')"""
        )
    assert ledger.usage.between(*span(DAY, now=NOON, zone=UTC_ZONE)).slots[0].most == 2


def test_what_was_put_away_is_told_beside_what_failed(ledger: Ledger, db: Db, figures: PeriodUsage) -> None:
    """And the latest of them is the one to look at."""
    db.execute(
        """INSERT INTO job (id, user_id, kind, status, parameters, error, created_at, finished_at, discarded_at) VALUES
        ('j7', 'ann', 'edit-image', 'failed', '{}', '{"class": "permanent", "code": "content_policy"}',
        '2026-11-19 09:00Z', '2026-11-19 10:00Z', now())"""
    )
    (failure,) = ledger.usage.between(*span(DAY, now=NOON, zone=UTC_ZONE)).failures
    assert (failure.jobs, failure.discarded, failure.latest) == (2, 1, "j7")


def test_the_report_says_it_in_words_and_a_chart(figures: PeriodUsage) -> None:
    """No name of a user's breaks its tables."""
    text = markdown(figures, UTC_ZONE)
    assert text.startswith("# Darkroom, Thursday, 2026-11-19\n")
    assert "**4 jobs were** ordered. **3** completed, **1** failed, 0 cancelled." in text
    assert "**0.550 USD** spent." in text
    assert "- 1 result was paid twice: 0.025 USD, in the sum above.\n- 1 call was answered by" in text
    assert f"\n08:00            2            {'█' * 40}\n" in text
    assert f"\n09:00                      1  {'░' * 20}\n" in text
    assert "| permanent | content_policy | j3 | 1 | 0 |" in text
    assert "--failed-since 2026-11-19T00:00:00+00:00 --failed-before 2026-11-20T00:00:00+00:00`" in text
    assert headline(figures, UTC_ZONE) == "Darkroom, Thursday, 2026-11-19: 3 completed, 1 failed, 0.550 USD"


def test_money_is_told_with_its_sums(figures: PeriodUsage) -> None:
    """Of all, and of each user with several models, above what they are of; who spent most first."""
    more = Spent(user="ann", endpoint="fal-ai/esrgan", calls=2, cost_usd=Decimal("0.6"))
    lines = markdown(replace(figures, spent=[*figures.spent, more]), UTC_ZONE).splitlines()
    first = lines.index("| all | all | 4 | 1.125 |")
    assert lines[first : first + 5] == [
        "| all | all | 4 | 1.125 |",
        "| ann | all | 3 | 0.625 |",
        "| ann | fal-ai/esrgan | 2 | 0.600 |",
        "| ann | fal-ai/flux/dev | 1 | 0.025 |",
        "| bob_x | fal-ai/kling | 1 | 0.500 |",
    ]


def test_what_is_sold_on_is_told_beside_what_was_spent(figures: PeriodUsage) -> None:
    """Where a plan has a mark-up; else nothing is said of prices."""
    assert "sold for" not in markdown(figures, UTC_ZONE)
    sold = replace(figures.spent[0], price_usd=Decimal("0.75"), marked_up=True)
    text = markdown(replace(figures, spent=[sold]), UTC_ZONE)
    assert "USD** spent. With mark-ups it is sold for 0.750 USD.\n" in text


def test_a_chart_of_several_days_has_a_bar_for_four_hours(ledger: Ledger, figures: PeriodUsage) -> None:
    """All that ended is in it: three days are 18 lines."""
    begin, end = span(None, now=datetime(2026, 11, 23, 9, tzinfo=UTC), zone=UTC_ZONE)
    hours = [(begin + timedelta(hours=n), 1, 0) for n in range(72)]
    text = markdown(replace(figures, begin=begin, end=end, hours=hours), UTC_ZONE)
    bars = [line for line in text.splitlines() if line.endswith("█" * 40)]
    assert len(bars) == 18
    assert (bars[0].split()[:3], bars[-1].split()[:3]) == (["Fri", "00:00", "4"], ["Sun", "20:00", "4"])


def test_a_quiet_day_is_a_report_too(ledger: Ledger) -> None:
    text = markdown(ledger.usage.between(*span(DAY, now=NOON, zone=UTC_ZONE)), UTC_ZONE)
    assert "**0 jobs were** ordered" in text
    assert "No result was paid twice." in text
    assert text.count("None.") == 6


def test_a_mondays_report_begins_with_friday() -> None:
    """Other days' with the day before; in the report's own time zone, whatever its hours are."""
    monday = datetime(2026, 11, 23, 9, tzinfo=BERLIN)
    begin, end = span(None, now=monday, zone=BERLIN)
    assert (begin, end) == (datetime(2026, 11, 20, tzinfo=BERLIN), datetime(2026, 11, 23, tzinfo=BERLIN))
    begin, end = span(None, now=monday + timedelta(days=1), zone=BERLIN)
    assert (begin.day, end.day) == (23, 24)
    begin, end = span(date(2026, 10, 25), now=monday, zone=BERLIN)
    assert end.astimezone(UTC) - begin.astimezone(UTC) == timedelta(hours=25), "the clocks went back"
    assert title_of(begin, end) == "Darkroom, Sunday, 2026-10-25"


def title_of(begin: datetime, end: datetime) -> str:
    nothing = dict.fromkeys(("hours", "failures", "spent", "latency", "slots"), ())
    money = {name: Decimal(0) for name in ("duplicates_usd", "perhaps_paid_usd", "saved_usd")}
    none = dict.fromkeys(("ordered", "duplicates", "perhaps_paid", "reused"), 0)
    figures = PeriodUsage(begin=begin, end=end, jobs={}, **none, **nothing, **money)
    return title(figures, BERLIN)
