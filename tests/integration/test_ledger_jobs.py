"""Jobs on record: in pages, to their ends, with their files and the news of them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

from implying import grants
from interleaving import all_at_once
from ledger_databases import Db
from ledger_scenes import KIND, granted_picture, post, spec

from darkroom.ledger import Job, JobStatus, Ledger, RequestStatus, StoredFile


def file(key: str) -> StoredFile:
    return StoredFile(key=key, sha256="0" * 64, content_type="image/png", bytes=3 * 2**30, width=64, height=32)


def all_pages(ledger: Ledger, user_id: str, *, limit: int, status: JobStatus | None = None) -> list[str]:
    found: list[Job] = []
    while page := ledger.jobs.page(
        user_id, limit=limit, before=(found[-1].created_at, found[-1].id) if found else None, status=status
    ):
        found += page
    return [job.id for job in found]


def test_pages_together_are_all_jobs_newest_first(ledger: Ledger, db: Db, ann: str) -> None:
    """Each once, also where many are of one moment, and nobody else's."""
    mine = [post(ledger, ann).id for _ in range(7)]
    post(ledger, ledger.users.add("bob").user_id)
    db.execute("UPDATE job SET created_at = now() WHERE id = ANY(%s)", [mine[2:5]])
    newest_first = db.execute("SELECT id FROM job WHERE user_id = %s ORDER BY created_at DESC, id DESC", [ann])
    assert all_pages(ledger, ann, limit=2) == [row["id"] for row in newest_first]


def test_pages_can_be_of_one_status(ledger: Ledger, ann: str) -> None:
    """E.g. what has failed."""
    jobs = [post(ledger, ann).id for _ in range(4)]
    ledger.jobs.finish(jobs[1], JobStatus.FAILED)
    ledger.jobs.finish(jobs[3], JobStatus.FAILED)
    assert all_pages(ledger, ann, limit=1, status=JobStatus.FAILED) == [jobs[3], jobs[1]]


def test_a_job_runs_from_its_first_call(ledger: Ledger, ann: str) -> None:
    """And stays what it is when it is called again."""
    picture = granted_picture(ledger, ann)
    (first,) = ledger.jobs.take_up([picture.job_id])
    (again,) = ledger.jobs.take_up([picture.job_id])
    assert first.job.status is JobStatus.RUNNING and again == first


def test_jobs_are_taken_up_with_all_that_is_on_record_of_each(ledger: Ledger, ann: str) -> None:
    """In the order asked for, each with its own calls and files; one that has ended is not called again."""
    jobs = [post(ledger, ann) for _ in range(3)]
    ledger.requests.reserve_all(jobs[2].id, [spec(attempt=2)])
    ledger.jobs.take_up([jobs[0].id])  # before that no call has stored anything
    asset = ledger.assets.add(jobs[0], ref=None, step="generate", n=0, file=file("a.png"))
    ledger.jobs.finish(jobs[1].id, JobStatus.FAILED)
    records = ledger.jobs.take_up([jobs[2].id, jobs[1].id, jobs[0].id])
    assert [record.job.id for record in records] == [jobs[2].id, jobs[0].id]
    assert [[row.attempt for row in record.requests] for record in records] == [[1, 2], [1]]
    assert [record.assets for record in records] == [(), (asset,)]


def test_a_job_ends_once(ledger: Ledger, db: Db, ann: str) -> None:
    """Of several endings at once the first stands, and there is one piece of news."""
    picture = granted_picture(ledger, ann)
    endings = [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED] * 2
    all_at_once([lambda status=status: ledger.jobs.finish(picture.job_id, status) for status in endings])
    news = db.execute("SELECT event FROM notification ORDER BY id").fetchall()
    assert [each["event"] for each in news] == ["job.created", f"job.{picture.job.status.value}"]


def test_an_ending_keeps_its_error(ledger: Ledger, ann: str) -> None:
    """A failed job is a dead letter."""
    job = post(ledger, ann)
    ledger.jobs.finish(job.id, JobStatus.FAILED, error={"code": "content_policy", "cost": Decimal("0.1")})
    ended = ledger.jobs.get(job.id)
    assert ended is not None and ended.error == {"code": "content_policy", "cost": "0.1"}


def test_a_job_that_ends_leaves_nothing_queued(ledger: Ledger, ann: str) -> None:
    """A row nobody collects would hold its slot for ever."""
    picture = granted_picture(ledger, ann)
    assert grants(ledger.jobs.finish(picture.job_id, JobStatus.FAILED))
    assert picture.row.status is RequestStatus.CANCELLED


def test_a_file_is_on_record_once(ledger: Ledger, ann: str) -> None:
    """Stored again, it keeps its id: links to it stay good."""
    job = post(ledger, ann)
    first = ledger.assets.add(job, ref=None, step="generate", n=0, file=file("a.png"))
    at = datetime(2026, 1, 1, tzinfo=UTC)
    again = ledger.assets.add(job, ref=None, step="generate", n=0, file=file("b.png"), collected_at=at)
    second = ledger.assets.add(job, ref=None, step="generate", n=1, file=file("c.png"))
    assert (again.id, again.key, again.bytes) == (first.id, "b.png", 3 * 2**30)
    assert (first.collected_at, again.collected_at) == (None, at)
    assert [asset.id for asset in ledger.assets.of_job(job.id)] == [first.id, second.id]
    assert ledger.assets.get(second.id) == second


def test_a_run_that_a_person_started_has_its_own_job(ledger: Ledger, ann: str) -> None:
    """On record with the run, and waiting in the same queue as everybody's once it reserves."""
    flow_run_id = uuid4()
    run = ledger.runs.open_own(flow_run_id, user_id=ann, kind=KIND, parameters={"prompt": "a fox"})
    (job,) = ledger.jobs.of_run(run.id)
    assert (job.user_id, job.kind, job.parameters) == (ann, KIND, {"prompt": "a fox"})
    assert ledger.runs.poll_work(run.id, {}).ready == (job.id,)
    found = ledger.runs.enter(flow_run_id, run_key=None)
    assert found is not None and found[0].id == run.id
    assert ledger.runs.enter(uuid4(), run_key=None) is None


def test_jobs_that_were_granted_and_not_placed_are_found(ledger: Ledger, ann: str) -> None:
    """Whoever granted them may have died before he told a run."""
    job = post(ledger, ann)
    assert ledger.jobs.unassigned() == []
    ledger.grants.grant()
    assert ledger.jobs.unassigned() == [job.id]
    ledger.runs.assign(job.id)
    assert ledger.jobs.unassigned() == []


def test_one_at_a_time_works_under_a_name(ledger: Ledger) -> None:
    """The others leave at once; and it is free again when its holder has gone."""
    with ledger.only_one("reconcile") as first, ledger.only_one("reconcile") as second, ledger.only_one("x") as other:
        assert (first, second, other) == (True, False, True)
    with ledger.only_one("reconcile") as again:
        assert again
