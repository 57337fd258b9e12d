"""A job is posted once for each idempotency key, however often and however fast it is sent."""

from __future__ import annotations

from typing import Any

import pytest
from implying import grants
from interleaving import all_at_once, overlap
from ledger_databases import Db
from ledger_scenes import KIND, post, spec

from darkroom.errors import BadInput
from darkroom.ledger import JobStatus, Labels, Ledger, RequestStatus


def test_a_post_is_on_record_before_anything_is_paid(ledger: Ledger, ann: str) -> None:
    """The job and its first request in one transaction, waiting for a slot."""
    job = post(ledger, ann)
    (row,) = ledger.requests.of_job(job.id)
    assert (job.status, job.run_id) == (JobStatus.PENDING, None)
    assert (row.status, row.user_id, row.step, row.attempt) == (RequestStatus.QUEUED, ann, "generate", 1)
    assert (row.input, row.request_id, row.cost_usd) == ({"prompt": "a fox"}, None, None)


def test_twelve_posts_at_once_with_one_key_make_one_job(ledger: Ledger, db: Db, ann: str) -> None:
    """All twelve are told the same job; one of them that it is new; one call will be paid."""
    posts = all_at_once(
        [
            lambda: ledger.jobs.post(
                user_id=ann, kind=KIND, parameters={"prompt": "a fox"}, first=spec(), idempotency_key="k"
            )
        ]
        * 12
    )
    assert len({posted.job.id for posted in posts}) == 1
    assert sum(posted.new for posted in posts) == 1
    assert sum(grants(posted.implied) for posted in posts) == 1
    assert db.execute("SELECT count(*) AS n FROM request").fetchall() == [{"n": 1}]


def test_a_post_waits_for_the_one_that_came_first(ledger: Ledger, db: Db, ann: str) -> None:
    """Whether the key is taken is known only when the first has committed."""
    one, two = overlap(
        db, lambda: post(ledger, ann, key="k"), lambda: post(ledger, ann, key="k"), at="INSERT ON request"
    )
    assert one.id == two.id


def test_the_same_key_with_another_body_is_refused(ledger: Ledger, db: Db, ann: str) -> None:
    """It would get the picture of another prompt, and believe it was its own."""
    post(ledger, ann, key="k")
    with pytest.raises(BadInput, match="Use a new key") as refused:
        post(ledger, ann, key="k", input={"prompt": "a box"})
    assert (refused.value.field, refused.value.code) == ("Idempotency-Key", "idempotency_conflict")
    assert db.execute("SELECT count(*) AS n FROM job").fetchall() == [{"n": 1}]


def test_the_same_key_for_another_kind_is_refused(ledger: Ledger, ann: str) -> None:
    """Two pipelines may take the same fields."""
    post(ledger, ann, key="k")
    with pytest.raises(BadInput, match="Use a new key"):
        ledger.jobs.post(user_id=ann, kind="edit-image", parameters={"prompt": "a fox"}, idempotency_key="k")


OTHERWISE: dict[str, dict[str, Any]] = {
    "tags": {"labels": Labels(tags=("a",))},
    "metadata": {"labels": Labels(metadata={"a": 1})},
    "callback": {"labels": Labels(callback_url="https://shop.example/b", callback_events=("job.failed",))},
    "events of the callback": {"labels": Labels(callback_url="https://shop.example/a", callback_events=())},
}


@pytest.mark.parametrize("otherwise", OTHERWISE.values(), ids=OTHERWISE)
def test_the_same_key_is_for_the_whole_of_an_order(ledger: Ledger, ann: str, otherwise: dict[str, Any]) -> None:
    """Also for what is not its work's: where its news goes, and what it is found by."""
    to_a = Labels(callback_url="https://shop.example/a", callback_events=("job.failed",))
    order: dict[str, Any] = {
        "user_id": ann,
        "kind": KIND,
        "parameters": {"prompt": "a fox"},
        "labels": to_a,
        "idempotency_key": "k",
    }
    assert ledger.jobs.post(**order).new and not ledger.jobs.post(**order).new
    with pytest.raises(BadInput, match="Use a new key"):
        ledger.jobs.post(**order | otherwise)


def test_keys_belong_to_their_user(ledger: Ledger, ann: str) -> None:
    """Nobody learns of another's job by guessing keys, and each finds their own again."""
    users = [ann, ledger.users.add("bob").user_id]
    first, again = [[post(ledger, user, key="k").id for user in users] for _ in range(2)]
    assert again == first and first[0] != first[1]


def test_posts_without_a_key_are_all_new(ledger: Ledger, ann: str) -> None:
    """Two equal pictures may be wanted."""
    assert post(ledger, ann).id != post(ledger, ann).id


def test_a_step_is_reserved_once(ledger: Ledger, db: Db, ann: str) -> None:
    """Whoever comes again adopts the row: the function is called from its top each time."""
    job = post(ledger, ann)
    rows = all_at_once([lambda: ledger.requests.reserve_all(job.id, [spec(step="upscale")])[0]] * 6)
    assert len({row.ref for row in rows}) == 1
    ledger.grants.grant()
    (adopted,) = ledger.requests.reserve_all(job.id, [spec(step="upscale")])
    assert (adopted.ref, adopted.status) == (rows[0].ref, RequestStatus.GRANTED)


def test_attempts_stand_beside_each_other(ledger: Ledger, ann: str) -> None:
    """The one given up stays on record; the newest is the step's."""
    job = post(ledger, ann)
    second = ledger.requests.reserve_all(job.id, [spec(attempt=2)])[0]
    assert second.attempt == 2
    assert [row.attempt for row in ledger.requests.of_job(job.id)] == [1, 2]


def test_what_postgres_does_not_take_is_stored_readable(ledger: Ledger, ann: str) -> None:
    """A webhook with it would be refused for ever, though it is paid."""
    job = post(ledger, ann)
    (row,) = ledger.requests.of_job(job.id)
    ledger.requests.fill_output(row.ref, output={"a\0": "half \ud83d", "n": float("nan")}, cost_usd=None)
    assert ledger.requests.get(row.ref).output == {"a\ufffd": "half \ufffd", "n": None}
