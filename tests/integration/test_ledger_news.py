"""News: told with what it tells, and read in an order in which nothing is ever passed over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from interleaving import all_at_once, closed_gate, overlap
from ledger_databases import Db
from ledger_scenes import granted_picture, post
from reconciling import resources_of, turn

from darkroom.clock import next_midnight, utc_now
from darkroom.ledger import Audience, Job, JobStatus, Ledger, ManifestRow, News, StoredFile
from darkroom.ledger.news import known_topics
from darkroom.timing import UNSCALED

FOREVER = 2**62
# As the version before 0008 writes it.
BEFORE = """
    WITH numbered AS (UPDATE "user" SET notified = notified + 1 WHERE id = %(user_id)s RETURNING notified)
    INSERT INTO notification (user_id, number, job_id, event, created_at)
    SELECT %(user_id)s, notified, %(job_id)s, 'job.completed', now() FROM numbered
"""


def told(ledger: Ledger, user_id: str, *, after: int = 0, **more: Any) -> list[News]:
    while ledger.news.number():
        pass
    audience = Audience(user_id=user_id, **more)
    return ledger.news.of(audience, after=after, until=FOREVER, limit=10_000)


def events(found: Sequence[News]) -> list[str]:
    return [each.event for each in found]


def file(key: str) -> StoredFile:
    return StoredFile(key=key, sha256="0" * 64, content_type="image/png", bytes=3, width=64, height=32)


def test_a_picture_is_told_from_order_to_end(ledger: Ledger, ann: str) -> None:
    """Created, running, its file once however often it is stored, its end; each with its job and kind."""
    picture = granted_picture(ledger, ann)
    for _ in range(2):
        ledger.jobs.take_up([picture.job_id])
        ledger.assets.add(picture.job, ref=None, step="generate", n=0, file=file("a.png"))
    ledger.jobs.finish(picture.job_id, JobStatus.COMPLETED)
    news = told(ledger, ann)
    assert events(news) == ["job.created", "job.running", "asset.stored", "job.completed"]
    assert {(each.job_id, each.kind, each.user_id) for each in news} == {(picture.job_id, "generate-image", ann)}
    assert news[2].data is not None and news[2].data["content_type"] == "image/png"


def test_a_failure_is_told_with_its_error(ledger: Ledger, ann: str) -> None:
    """Code and class: an application decides by them."""
    job = post(ledger, ann)
    ledger.jobs.finish(job.id, JobStatus.FAILED, error={"code": "content_policy", "class": "permanent"})
    assert told(ledger, ann)[-1].data == {"error": {"code": "content_policy", "class": "permanent"}}


def test_progress_is_told_once_a_second_at_most(ledger_url: str, ann: str) -> None:
    """What comes in between is on record all the same."""
    at = utc_now()
    ledger = Ledger(ledger_url, clock=lambda: at)
    job = post(ledger, ann)
    for percent in range(10):
        assert ledger.jobs.progress(job.id, percent, "paints")
        at += UNSCALED.progress_published / 4
    percents = [each.data["percent"] for each in told(ledger, ann) if each.event == "job.progress" and each.data]
    assert percents == [0, 4, 8]
    ledger.close()


def test_a_wait_is_told_when_it_opens(ledger: Ledger, ann: str) -> None:
    """Once, with what is waited for."""
    job = post(ledger, ann)
    for _ in range(2):
        ledger.waits.sleep(job, "a while", until=utc_now() + timedelta(hours=1))
    waits = [each.data for each in told(ledger, ann) if each.event == "wait.opened"]
    assert [(data["name"], data["kind"]) for data in waits if data] == [("a while", "sleep")]


def batch(ledger: Ledger, ann: str) -> Job:
    rows = [ManifestRow(n=0, name=None, picture={"prompt": "a fox"})]
    return ledger.jobs.post_batch(
        user_id=ann,
        kind="render-batch",
        parameters={},
        rows=rows,
        drafts=[],
        forecast={},
        estimate_usd=Decimal(0),
    ).job


def test_a_batch_asks_once_for_a_choice(ledger: Ledger, ann: str) -> None:
    """However often its run comes by, and however many ask at once."""
    job = batch(ledger, ann)
    all_at_once([lambda: ledger.batches.await_selection(job.id, patience=None)] * 4)
    assert events(told(ledger, ann)) == ["job.created", "batch.awaiting_choice"]


def test_nothing_is_passed_over_that_commits_later(ledger: Ledger, ledger_url: str, ann: str) -> None:
    """Twenty transactions, each written in one order and committed in the opposite one, and read after each commit."""
    jobs = [post(ledger, ann).id for _ in range(20)]
    seen = [each.number for each in told(ledger, ann)]
    statement = "INSERT INTO notification (user_id, job_id, event, created_at) VALUES (%s, %s, 'job.completed', now())"
    heard: list[News] = []
    with ExitStack() as opened:
        writers = [opened.enter_context(psycopg.connect(ledger_url)) for _ in jobs]
        for writer, job_id in zip(writers, jobs, strict=True):
            writer.execute(statement, [ann, job_id])  # none waits for another
        for writer in reversed(writers):
            writer.commit()
            heard += told(ledger, ann, after=max([*seen, *(each.number for each in heard)]))
    assert [each.job_id for each in heard] == jobs[::-1]
    assert told(ledger, ann, after=max(seen)) == heard


def test_twenty_jobs_that_end_at_once_are_all_heard_by_one_who_reads_on(ledger: Ledger, db: Db, ann: str) -> None:
    """Held in their commits and let go together, while two readers number and read without a pause."""
    jobs = [post(ledger, ann).id for _ in range(20)]
    after = told(ledger, ann)[-1].number

    def follow() -> list[str | None]:
        heard: list[News] = []
        while len(heard) < len(jobs):
            heard += told(ledger, ann, after=heard[-1].number if heard else after)
        return [each.job_id for each in heard]

    in_the_commit = closed_gate(db, at="INSERT ON notification", in_the_commit=True)
    with ThreadPoolExecutor(len(jobs) + 2) as pool, in_the_commit as gate:
        readers = [pool.submit(follow) for _ in range(2)]
        endings = [pool.submit(ledger.jobs.finish, job, JobStatus.COMPLETED) for job in jobs]
        gate.reached()
        db.execute("SELECT pg_advisory_unlock_all()")
        heard = [reader.result(timeout=60) for reader in readers]
        assert all(ending.result() for ending in endings)
    assert heard[0] == heard[1] and sorted(map(str, heard[0])) == sorted(jobs)


def test_numbers_are_given_by_one_at_a_time(ledger: Ledger, db: Db, ann: str) -> None:
    """Eight gateways that number at once give each row one place, in the order in which they were written."""
    jobs = [post(ledger, ann).id for _ in range(50)]
    all_at_once([ledger.news.number] * 8)
    rows = db.execute("SELECT job_id FROM notification ORDER BY place").fetchall()
    assert [row["job_id"] for row in rows] == jobs


def test_a_number_that_was_given_stays(ledger: Ledger, db: Db, ann: str) -> None:
    """Also where another gateway was about to give the same rows theirs: readers go on from it."""
    before = ledger.news.now()
    jobs = [post(ledger, ann) for _ in range(3)]
    overlap(db, ledger.news.number, ledger.news.number, at="UPDATE ON notification")
    assert ledger.news.newest() == before + len(jobs)


def test_the_version_before_goes_on_writing(ledger: Ledger, db: Db, ann: str) -> None:
    """Its rows are news like ours, and it rings for them without knowing."""
    job = post(ledger, ann)
    with ledger.listen("darkroom_news") as listener:
        for _ in range(2):
            db.execute(BEFORE, {"user_id": ann, "job_id": job.id})
        assert listener.wait(30)
    ledger.jobs.finish(job.id, JobStatus.COMPLETED)
    assert events(told(ledger, ann)) == ["job.created", *["job.completed"] * 3]


@pytest.fixture
def service(ledger: Ledger) -> Iterator[str]:
    yield ledger.users.add("shop", service=True).user_id


def test_a_service_hears_all_its_end_users(ledger: Ledger, ann: str, service: str) -> None:
    """By its own names of them, and nobody else's; an end user hears itself."""
    users = {name: ledger.users.end_user(service, name).id for name in ("4711", "4712")}
    for user_id in (*users.values(), service, ann):
        post(ledger, user_id)
    assert [each.user for each in told(ledger, service, service=True)] == ["4711", "4712", None]
    assert [each.user_id for each in told(ledger, users["4712"])] == [users["4712"]]
    assert [each.user_id for each in told(ledger, service)] == [service]


def test_an_audience_can_hear_one_job_or_some_topics(ledger: Ledger, ann: str) -> None:
    """By name, or all that begin with a word; what is read back and what is heard live is chosen alike."""
    jobs = [post(ledger, ann) for _ in range(2)]
    ledger.assets.add(jobs[0], ref=None, step="generate", n=0, file=file("a.png"))
    for job in jobs:
        ledger.jobs.finish(job.id, JobStatus.COMPLETED)
    everything = told(ledger, ann)
    for more in (
        {"job_id": jobs[0].id},
        {"topics": known_topics(["asset", "job.completed"])},
        {"job_id": jobs[1].id, "topics": known_topics(["asset"])},
    ):
        audience = Audience(user_id=ann, **more)  # type: ignore[arg-type]
        assert told(ledger, ann, **more) == [each for each in everything if audience.hears(each)]
    with pytest.raises(ValueError, match="jobs"):
        known_topics(["jobs"])


def test_a_budget_that_holds_work_back_is_told_once_a_day(ledger: Ledger, db: Db) -> None:
    """By each turn of reconcile; not one that has room for the next, and again the day after."""
    ledger.users.set_plan("thrifty", in_flight=10, weight=Decimal(1), daily_budget_usd=Decimal("0.10"))
    bob = ledger.users.add("bob", plan="thrifty").user_id
    resources = resources_of(ledger)
    for _ in range(4):
        post(ledger, bob, estimate_usd=Decimal("0.025"))
    ledger.grants.grant()
    turn(resources)
    assert "budget.reached" not in events(told(ledger, bob))
    post(ledger, bob, estimate_usd=Decimal("0.025"))
    for _ in range(2):
        turn(resources)
    news = told(ledger, bob)
    assert events(news)[-1] == "budget.reached" and news[-1].data is not None
    assert datetime.fromisoformat(news[-1].data["resets_at"]) == next_midnight(utc_now())
    said = {name: value for name, value in news[-1].data.items() if name != "resets_at"}
    assert said == {"period": "day", "budget_usd": 0.1, "daily_budget_usd": 0.1, "spent_usd": 0.1}
    assert events(news).count("budget.reached") == 1
    db.execute("UPDATE notification SET created_at = created_at - interval '1 day'")
    turn(resources)
    assert events(told(ledger, bob)).count("budget.reached") == 2


def test_a_month_that_is_spent_is_told_beside_the_day(ledger: Ledger) -> None:
    """Each budget for itself, the user's own too; which of them holds the work back is in the data."""
    ledger.users.set_plan("thrifty", in_flight=10, weight=Decimal(1), monthly_budget_usd=Decimal("0.10"))
    bob = ledger.users.add("bob", plan="thrifty").user_id
    ledger.users.set_budgets(bob, {"daily_budget_usd": Decimal("0.08")})
    for _ in range(5):
        post(ledger, bob, estimate_usd=Decimal("0.025"))
    ledger.grants.grant()
    ledger.budgets.publish()
    ledger.users.set_budgets(bob, {"daily_budget_usd": None})
    ledger.grants.grant()
    for _ in range(2):
        ledger.budgets.publish()
    data = [each.data or {} for each in told(ledger, bob) if each.event == "budget.reached"]
    assert [(each["period"], each["budget_usd"]) for each in data] == [("day", 0.08), ("month", 0.1)]
    assert data[1]["spent_usd"] == 0.1 and "daily_budget_usd" not in data[1]


def test_old_news_is_forgotten(ledger: Ledger, db: Db, ann: str) -> None:
    """What is younger stays, with its number."""
    post(ledger, ann)
    db.execute("UPDATE notification SET created_at = now() - interval '31 days'")
    post(ledger, ann)
    numbers = [each.number for each in told(ledger, ann)]
    turn(resources_of(ledger))
    assert [each.number for each in told(ledger, ann)] == numbers[1:]
