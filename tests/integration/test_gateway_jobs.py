"""What became of an order: its document, the list, and the files, each to its owner or by a signed link."""

from __future__ import annotations

import hashlib
import itertools
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from gateway_and_prefect import gateway as gateway
from pydantic import SecretStr
from running_gateway import (
    Customer,
    RecordingPrefect,
    RunningGateway,
)
from support import wait_until

from darkroom.clock import utc_now
from darkroom.ledger import Asset, Job, JobStatus, Ledger, Outcome, RequestSpec, StoredFile, Transition
from darkroom.media.links import asset_url
from darkroom.media.store import MediaStore
from darkroom.settings import Settings

PICTURE = b"\xff\xd8 a picture, for all that a store knows"
KEY = "images/u1/job_1/generate-0.jpg"


@pytest.fixture
def settings(ledger_url: str, tmp_path: Path) -> Settings:
    return Settings(ledger_url=ledger_url, home=tmp_path, signing_key=SecretStr("a long random text"))


@pytest.fixture
def ann(gateway: RunningGateway, ledger: Ledger) -> Customer:
    return gateway.as_user(ledger.users.add("ann"))


@pytest.fixture
def bob(gateway: RunningGateway, ledger: Ledger) -> Customer:
    return gateway.as_user(ledger.users.add("bob"))


def post(ledger: Ledger, name: str, *, prompt: str = "a fox") -> Job:
    first = RequestSpec(
        step="generate", endpoint="fal-ai/flux/dev", input={"prompt": prompt}, estimate_usd=Decimal("0.025")
    )
    user_id = ledger.users.find(name).id
    return ledger.jobs.post(user_id=user_id, kind="generate-image", parameters={"prompt": prompt}, first=first).job


def submit(ledger: Ledger, job: Job) -> None:
    """As its run would; the gateway's own thread may have granted it first."""
    ledger.grants.grant()
    (row,) = ledger.requests.of_job(job.id)
    assert ledger.requests.begin_submit(row.ref, deadline=timedelta(hours=1)) is not None
    ledger.requests.accepted(row.ref, request_id=f"fal-{job.id}")


def store_picture(ledger: Ledger, store: MediaStore, job: Job) -> Asset:
    store.write(KEY, PICTURE)
    file = StoredFile(
        key=KEY,
        sha256=hashlib.sha256(PICTURE).hexdigest(),
        content_type="image/jpeg",
        bytes=len(PICTURE),
        width=64,
        height=64,
    )
    return ledger.assets.add(job, ref=None, step="generate", n=0, file=file)


def test_a_finished_job_shows_its_files_and_its_error_is_null(ann: Customer, ledger: Ledger, store: MediaStore) -> None:
    """With a link to each file that needs no key, and nothing to wait for."""
    job = post(ledger, "ann")
    asset = store_picture(ledger, store, job)
    ledger.jobs.finish(job.id, JobStatus.COMPLETED)

    document = ann.get(f"/v1/jobs/{job.id}").json()

    assert (document["status"], document["error"], document["waiting_for"]) == ("completed", None, None)
    (file,) = document["assets"]
    assert (file["id"], file["key"], file["bytes"], file["width"]) == (asset.id, KEY, len(PICTURE), 64)
    assert file["sha256"] == hashlib.sha256(PICTURE).hexdigest()


def test_a_failed_job_says_why(ann: Customer, ledger: Ledger) -> None:
    """By code and class, in words, with the step and the paid call it failed at."""
    job = post(ledger, "ann")
    error = {
        "code": "content_policy_violation",
        "class": "permanent",
        "message": "The content was flagged.",
        "step": "generate",
        "ref": "req_1",
        "retryable": False,
    }
    ledger.jobs.finish(job.id, JobStatus.FAILED, error=error)

    assert ann.get(f"/v1/jobs/{job.id}").json()["error"] == error


@pytest.mark.parametrize("path", ["/v1/jobs/{job}", "/v1/assets/{asset}", "/v1/jobs/job_nonesuch", "/v1/assets/%00"])
def test_what_is_not_yours_is_not_there(
    ann: Customer, bob: Customer, ledger: Ledger, store: MediaStore, path: str
) -> None:
    """Another user's job reads exactly like one that does not exist."""
    job = post(ledger, "ann")
    asset = store_picture(ledger, store, job)

    answer = bob.get(path.format(job=job.id, asset=asset.id))

    assert answer.status_code in (404, 422)
    assert answer.json()["remedy"]
    assert bob.get("/v1/jobs").json()["items"] == []


def test_the_list_is_paged_newest_first_without_gaps(ann: Customer, ledger: Ledger) -> None:
    """Also while new jobs come in between: a page goes on where the one before ended."""
    jobs = [post(ledger, "ann", prompt=f"fox {n}").id for n in range(5)]

    seen: list[str] = []
    cursor: str | None = ""
    for limit in itertools.repeat(2):
        page = ann.get(f"/v1/jobs?limit={limit}" + (f"&cursor={cursor}" if cursor else "")).json()
        seen += [item["id"] for item in page["items"]]
        post(ledger, "ann", prompt="one more")
        if (cursor := page["next"]) is None:
            break

    assert seen == jobs[::-1]


def test_the_list_can_be_narrowed_to_a_status(ann: Customer, ledger: Ledger) -> None:
    """A word that is none is refused with those that are."""
    done, _ = post(ledger, "ann"), post(ledger, "ann")
    ledger.jobs.finish(done.id, JobStatus.COMPLETED)

    assert [item["id"] for item in ann.get("/v1/jobs?status=completed").json()["items"]] == [done.id]
    refusal = ann.get("/v1/jobs?status=done")
    assert (refusal.status_code, refusal.json()["field"]) == (422, "status")
    assert "completed" in refusal.json()["remedy"]


def test_a_job_says_what_was_ordered_and_what_that_costs(ann: Customer, ledger: Ledger, store: MediaStore) -> None:
    """Alone and in the list: the order, the estimate, what was paid, and a picture to know it by."""
    plan = ledger.users.plan_of(ledger.users.find("ann").id).name
    ledger.users.set_plan(plan, in_flight=3, weight=Decimal(1), markup=Decimal("1.5"))
    job = post(ledger, "ann")
    submit(ledger, job)
    (row,) = ledger.requests.of_job(job.id)
    assert ann.get(f"/v1/jobs/{job.id}").json()["requests"][0]["price_usd"] is None
    paid = Outcome(transition=Transition.SUCCEED, output={"images": []}, cost_usd=Decimal("0.02"))
    ledger.requests.settle(row.ref, paid, via="webhook")
    asset = store_picture(ledger, store, job)
    waiting = post(ledger, "ann", prompt="a hare")

    last, first = ann.get("/v1/jobs").json()["items"]

    assert (first["id"], first["order"]) == (job.id, {"prompt": "a fox"})
    assert (first["estimate_usd"], first["cost_usd"], first["price_usd"]) == (0.025, 0.02, 0.03)
    assert (first["preview"]["asset_id"], first["preview"]["content_type"]) == (asset.id, "image/jpeg")
    assert ann.get(relative(first["preview"]["url"])).content == PICTURE
    assert first["preview"]["width"] == asset.width
    assert (last["id"], last["estimate_usd"], last["cost_usd"], last["preview"]) == (waiting.id, 0.025, 0, None)
    alone = ann.get(f"/v1/jobs/{job.id}").json()
    named = ("order", "estimate_usd", "cost_usd", "price_usd")
    assert alone["requests"][0]["price_usd"] == 0.03
    assert [alone[name] for name in named] == [first[name] for name in named]


def test_what_an_order_was_estimated_at_stays(ann: Customer, ledger: Ledger) -> None:
    """Of the whole, as it was answered then; of a job that nobody estimated that of its calls, of none null."""
    ann_id = ledger.users.find("ann").id
    post_job = partial(ledger.jobs.post, user_id=ann_id, kind="make-debate", parameters={})
    whole = post_job(estimate_usd=Decimal("1.5"), idempotency_key="a").job
    nobody = post_job(idempotency_key="b").job
    assert ledger.jobs.usage([whole.id])[whole.id].estimate_usd == Decimal("1.5")
    assert ann.get(f"/v1/jobs/{nobody.id}").json()["estimate_usd"] is None


def test_the_list_can_be_narrowed_to_a_kind_and_a_time(ann: Customer, ledger: Ledger) -> None:
    """All filters hold together, page by page. A time needs its zone."""
    pictures = [post(ledger, "ann").id for _ in range(3)]
    ledger.jobs.post(user_id=ledger.users.find("ann").id, kind="make-debate", parameters={})
    now = utc_now().isoformat().replace("+00:00", "Z")

    page = ann.get("/v1/jobs?kind=generate-image&limit=2").json()
    following = ann.get(f"/v1/jobs?kind=generate-image&limit=2&cursor={page['next']}").json()

    assert [item["id"] for item in page["items"] + following["items"]] == pictures[::-1]
    assert ann.get("/v1/jobs?kind=nonesuch").json()["items"] == []
    assert ann.get(f"/v1/jobs?since={now}").json()["items"] == []
    assert len(ann.get("/v1/jobs?since=2020-01-01T00:00:00Z&status=pending").json()["items"]) == 4
    refusal = ann.get("/v1/jobs?since=2030-01-01T12:00:00")
    assert (refusal.status_code, refusal.json()["field"]) == (422, "since")


def test_an_operator_lists_everybodys_jobs(ledger: Ledger) -> None:
    """Newest first over all users, page by page, though more have ordered than a page is long."""
    for name in ("ann", "bob", "cid"):
        ledger.users.add(name)
    jobs = [post(ledger, name).id for name in ("cid", "ann", "bob", "ann")]
    page = ledger.jobs.page(None, limit=2)
    rest = ledger.jobs.page(None, limit=2, before=(page[-1].created_at, page[-1].id))
    assert [job.id for job in [*page, *rest]] == jobs[::-1]


@pytest.mark.parametrize(("query", "field"), [("limit=0", "limit"), ("limit=201", "limit"), ("cursor=abc", "cursor")])
def test_a_page_that_cannot_be_is_refused(ann: Customer, query: str, field: str) -> None:
    """With its parameter and remedy."""
    refusal = ann.get(f"/v1/jobs?{query}")

    assert (refusal.status_code, refusal.json()["field"]) == (422, field)


def test_a_job_of_which_nothing_was_sent_is_cancelled_at_once(ann: Customer, ledger: Ledger) -> None:
    """200 with the job as it is then; asked again, the same."""
    job = post(ledger, "ann")

    answer = ann.post(f"/v1/jobs/{job.id}/cancel")

    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["waiting_for"]) == ("cancelled", None)
    assert ann.post(f"/v1/jobs/{job.id}/cancel").json() == answer.json()


def test_a_job_that_the_provider_has_is_cancelled_when_it_is_done_with_it(ann: Customer, ledger: Ledger) -> None:
    """202: it is asked for, and its slot stays held."""
    job = post(ledger, "ann")
    ledger.runs.assign(job.id)
    submit(ledger, job)

    answer = ann.post(f"/v1/jobs/{job.id}/cancel")

    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    assert "cancel asked for" in answer.json()["waiting_for"]
    assert [row["status"] for row in answer.json()["requests"]] == ["in_flight"]


def test_a_completed_job_stays_completed(ann: Customer, ledger: Ledger) -> None:
    """A cancel of it is no error, a replay is one that says what to do instead."""
    job = post(ledger, "ann")
    ledger.jobs.finish(job.id, JobStatus.COMPLETED)

    cancelled, replayed = ann.post(f"/v1/jobs/{job.id}/cancel"), ann.post(f"/v1/jobs/{job.id}/replay")

    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "completed")
    assert (replayed.status_code, replayed.json()["type"]) == (409, "urn:darkroom:problem:wrong-state")
    assert "anew" in replayed.json()["remedy"]


def test_a_failed_job_is_replayed_and_gets_a_run(
    ann: Customer, ledger: Ledger, prefect_calls: RecordingPrefect
) -> None:
    """202 with both attempts; the new one is granted like any other. A second replay finds it under way."""
    job = post(ledger, "ann")
    submit(ledger, job)
    (row,) = ledger.requests.of_job(job.id)
    ledger.requests.settle(row.ref, Outcome(transition=Transition.FAIL), via="webhook")
    ledger.jobs.finish(job.id, JobStatus.FAILED)

    answer = ann.post(f"/v1/jobs/{job.id}/replay")

    assert (answer.status_code, answer.json()["status"], answer.json()["error"]) == (202, "pending", None)
    assert [row["attempt"] for row in answer.json()["requests"]] == [1, 2]
    wait_until(lambda: prefect_calls.bodies("create_flow_run"), what="the run")
    assert ann.post(f"/v1/jobs/{job.id}/replay").status_code == 409


def test_a_replay_that_needs_no_slot_gets_a_run(ann: Customer, ledger: Ledger, prefect_calls: RecordingPrefect) -> None:
    """Its result is paid and on record; only its file is missing."""
    job = post(ledger, "ann")
    submit(ledger, job)
    (row,) = ledger.requests.of_job(job.id)
    ledger.requests.settle(row.ref, Outcome(transition=Transition.SUCCEED, output={"images": []}), via="webhook")
    ledger.jobs.finish(job.id, JobStatus.FAILED)

    assert ann.post(f"/v1/jobs/{job.id}/replay").status_code == 202

    wait_until(lambda: prefect_calls.bodies("create_flow_run"), what="the run")
    assert [row["attempt"] for row in ann.get(f"/v1/jobs/{job.id}").json()["requests"]] == [1]


@pytest.mark.parametrize("action", ["cancel", "replay"])
def test_nobody_else_ends_or_replays_a_job(ann: Customer, bob: Customer, ledger: Ledger, action: str) -> None:
    """It is not there for them, and stays as it is, but for the slot that the gateway may have granted it."""
    job = post(ledger, "ann")

    assert bob.post(f"/v1/jobs/{job.id}/{action}").status_code == 404
    assert bob.post(f"/v1/jobs/job_nonesuch/{action}").status_code == 404
    after = ledger.jobs.get(job.id)
    assert after is not None and after.status is job.status
    assert [row.attempt for row in ledger.requests.of_job(job.id)] == [1]


def test_a_link_shows_the_picture_without_a_key(
    ann: Customer, gateway: RunningGateway, ledger: Ledger, store: MediaStore
) -> None:
    """As an `<img>` in any page would ask for it; browsers neither guess at it nor run it."""
    job = post(ledger, "ann")
    store_picture(ledger, store, job)
    (file,) = ann.get(f"/v1/jobs/{job.id}").json()["assets"]

    answer = gateway.http.get(relative(file["url"]))

    assert (answer.status_code, answer.content) == (200, PICTURE)
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"] == 'inline; filename="generate-0.jpg"'
    assert "private" in answer.headers["Cache-Control"]


def test_a_picture_is_not_sent_twice(ann: Customer, ledger: Ledger, store: MediaStore) -> None:
    """Its ETag is its hash; who has it gets a 304."""
    asset = store_picture(ledger, store, post(ledger, "ann"))
    path = f"/v1/assets/{asset.id}"

    tag = ann.get(path).headers["ETag"]
    again = ann.get(path, If_None_Match=tag)

    assert tag == f'"{asset.sha256}"'
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("lifetime", "change", "field"),
    [
        (timedelta(hours=1), lambda url: url[:-4] + "0000", "signature"),
        (timedelta(hours=1), lambda url: url.replace("expires=1", "expires=2"), "signature"),
        (timedelta(hours=1), lambda url: url.partition("&")[0], "signature"),
        (timedelta(seconds=-5), lambda url: url, "expires"),
    ],
    ids=["forged", "prolonged", "unsigned", "expired"],
)
def test_a_bad_link_opens_nothing(
    gateway: RunningGateway,
    ann: Customer,
    ledger: Ledger,
    store: MediaStore,
    settings: Settings,
    lifetime,
    change,
    field,
) -> None:
    """403, naming what is wrong with it."""
    asset = store_picture(ledger, store, post(ledger, "ann"))

    answer = gateway.http.get(relative(change(asset_url(asset.id, settings, lifetime=lifetime, now=utc_now()))))

    assert (answer.status_code, answer.json()["field"]) == (403, field)


def test_an_owner_gets_the_file_or_its_document(ann: Customer, ledger: Ledger, store: MediaStore) -> None:
    """By what is asked for; without key and link there is neither."""
    asset = store_picture(ledger, store, post(ledger, "ann"))
    path = f"/v1/assets/{asset.id}"

    assert ann.get(path).content == PICTURE
    assert ann.get(path, Accept="application/json").json()["sha256"] == asset.sha256
    assert ann.http.get(path).status_code == 401


def test_a_file_that_is_gone_is_told_apart_from_one_that_never_was(
    ann: Customer, ledger: Ledger, store: MediaStore, tmp_path: Path
) -> None:
    """The record stays; somebody has removed the file from the store."""
    asset = store_picture(ledger, store, post(ledger, "ann"))
    (tmp_path / KEY).unlink()

    answer = ann.get(f"/v1/assets/{asset.id}")

    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:darkroom:problem:file-missing"


def relative(url: str) -> str:
    """The gateway of a test is not where the settings say."""
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"
