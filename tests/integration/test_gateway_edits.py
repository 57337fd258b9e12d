"""Edits over HTTP, and steps after a picture: what they cost is known, and what cannot be done is refused at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx
import pytest
from ledger_scenes import SUCCESS
from running_gateway import Customer, RunningGateway
from shared_gateway import gateway as gateway
from shared_gateway import home as home
from shared_gateway import ledger as ledger
from shared_gateway import ledger_url as ledger_url
from support import wait_until

from darkroom.ledger import Asset, JobStatus, Ledger, Request, RequestStatus, StoredFile, new_id

URL = "https://shop.example/fox.jpg"
MARK = {"step": "watermark", "text": "a fox"}


@pytest.fixture(scope="module", autouse=True)
def slots(ledger: Ledger) -> None:
    ledger.users.set_account("fal", slots=1000)


@dataclass(frozen=True, kw_only=True)
class Ann(Customer):
    """A user with pictures."""

    user_id: str
    ledger: Ledger

    def picture(self, *, size: tuple[int, int] = (1024, 1024), kind: str = "image/png") -> Asset:
        """Of the same content, if of the same size."""
        asset_id = new_id("ast_")
        file = StoredFile(key=asset_id, sha256=f"{size}", content_type=kind, bytes=1, width=size[0], height=size[1])
        return self.ledger.assets.add_upload(self.user_id, asset_id=asset_id, file=file)


@pytest.fixture
def new_user(gateway: RunningGateway, ledger: Ledger) -> Callable[..., Ann]:
    def add(plan: str = "studio") -> Ann:
        key = ledger.users.add(f"ann {uuid4().hex}", plan=plan)
        return Ann(key=key.key, http=gateway.http, user_id=key.user_id, ledger=ledger)

    return add


@pytest.fixture
def ann(new_user: Callable[..., Ann]) -> Ann:
    return new_user()


@pytest.fixture
def fox(ann: Ann) -> Asset:
    return ann.picture()


def edit(customer: Customer, image: str, *post: Any, **headers: str) -> httpx.Response:
    return customer.post("/v1/edits", json={"image": image, "post": list(post)}, **headers)


def rows(ledger: Ledger, answer: httpx.Response) -> list[Request]:
    assert answer.status_code == 202, answer.text
    return ledger.requests.of_job(answer.json()["job_id"])


def test_an_edit_is_on_record_with_its_first_call(ann: Ann, fox: Asset, ledger: Ledger) -> None:
    """The picture is named by its asset; the whole chain's price is told."""
    answer = edit(ann, fox.id, {"step": "upscale", "factor": 3}, "remove_background", MARK)
    (row,) = rows(ledger, answer)
    assert (row.step, row.endpoint, row.account_id) == ("1-upscale", "fal-ai/clarity-upscaler", "fal")
    assert row.input == {"image_url": f"asset:{fox.id}", "upscale_factor": 3.0}
    assert row.reuse_hash is not None
    assert answer.json()["estimate_usd"] == pytest.approx(9 * 0.03 + 5 * 0.00111)
    assert answer.headers["Location"] == answer.json()["links"]["self"]


def test_an_edit_that_begins_with_our_own_step_waits_for_no_slot(ann: Ann, fox: Asset, ledger: Ledger) -> None:
    """A watermark is ours to make: a run takes the job as it is."""
    answer = edit(ann, fox.id, MARK)
    assert rows(ledger, answer) == []
    assert answer.json()["estimate_usd"] == 0
    job = ledger.jobs.get(answer.json()["job_id"])
    assert job is not None and job.slotless


def test_a_picture_of_the_web_is_fetched_first(ann: Ann, ledger: Ledger) -> None:
    """As a call at the account of the web, which has its own slots."""
    (row,) = rows(ledger, edit(ann, URL, "upscale"))
    assert (row.step, row.endpoint, row.account_id) == ("fetch", "web/image", "web")
    assert (row.input or {})["url"] == URL


def test_a_call_that_was_paid_before_has_its_answer_at_once(ann: Ann, ledger: Ledger) -> None:
    """The same picture by its content, under another id, with the same options. Another factor is another call."""
    one, same, other = ann.picture(), ann.picture(), ann.picture(size=(512, 512))
    (paid,) = rows(ledger, edit(ann, one.id, "upscale", MARK))
    pay(ledger, paid)

    (again,) = rows(ledger, edit(ann, same.id, "upscale", {"step": "watermark", "text": "another fox"}))
    assert (again.status, again.cost_usd, again.reused_from) == (RequestStatus.SUCCEEDED, 0, paid.ref)
    for customer, image, step in [
        (ann, same.id, {"step": "upscale", "factor": 3}),
        (ann, same.id, {"step": "upscale", "model": "fal-ai/esrgan"}),
        (ann, other.id, "upscale"),
    ]:
        (row,) = rows(ledger, edit(customer, image, step))
        assert row.reused_from is None and row.status is not RequestStatus.SUCCEEDED


def test_another_users_answer_does_not_serve(
    ann: Ann, fox: Asset, ledger: Ledger, new_user: Callable[..., Ann]
) -> None:
    """Whoever has the same picture would learn that somebody had it before."""
    (paid,) = rows(ledger, edit(ann, fox.id, "upscale"))
    pay(ledger, paid)
    bob = new_user()
    (row,) = rows(ledger, edit(bob, bob.picture().id, "upscale"))
    assert row.reused_from is None and row.status is not RequestStatus.SUCCEEDED


@pytest.mark.parametrize(("body", "known"), [({"seed": 7, "post": ["upscale"]}, True), ({"post": ["upscale"]}, False)])
def test_a_generation_serves_again_where_its_steps_are_what_matters(
    ann: Ann, ledger: Ledger, body: dict[str, Any], known: bool
) -> None:
    """With a seed and steps afterwards; without a seed everybody expects a new picture."""
    order = {"prompt": "a fox", "image_size": "square_hd"} | body
    (paid,) = rows(ledger, ann.order(order))
    pay(ledger, paid)
    (row,) = rows(ledger, ann.order(order))
    assert (row.reused_from == paid.ref) is known


def test_a_paid_answer_whose_file_was_deleted_does_not_serve(ann: Ann, ledger: Ledger) -> None:
    """Who orders the same once more pays for new files."""
    order = {"prompt": "a fox", "seed": 7, "post": ["upscale"]}
    (paid,) = rows(ledger, ann.order(order))
    pay(ledger, paid)
    ledger.jobs.finish(paid.job_id, JobStatus.COMPLETED)
    for asset in ledger.assets.of_job(paid.job_id):
        assert ledger.assets.delete(asset.id, user_id=paid.user_id) is not None
    (row,) = rows(ledger, ann.order(order))
    assert row.reused_from is None


def test_without_steps_afterwards_a_seed_is_generated_anew(ann: Ann, ledger: Ledger) -> None:
    """As it was asked for: the same order twice is two pictures, and two prices."""
    for _ in range(2):
        (row,) = rows(ledger, ann.order({"prompt": "a fox", "seed": 7}))
        assert row.reuse_hash is None


def test_the_price_of_steps_after_a_picture_is_told(ann: Ann) -> None:
    """Of each picture: generated at a megapixel, enlarged to four, cut out."""
    answer = ann.order({"prompt": "a fox", "num_images": 2, "image_size": "square_hd", "post": ["upscale"]})
    assert answer.json()["estimate_usd"] == pytest.approx(2 * (0.025 + 4 * 0.03))
    assert ann.order({"prompt": "a fox"}).json()["estimate_usd"] is None


def test_a_chain_beyond_the_days_budget_is_refused(ledger: Ledger, new_user: Callable[..., Ann]) -> None:
    """By the price of all its steps, though the first alone would be within it."""
    ledger.users.set_plan("poor", in_flight=3, weight=Decimal(1), daily_budget_usd=Decimal("0.2"))
    ann = new_user("poor")
    refused = edit(ann, ann.picture().id, "upscale", {"step": "upscale", "factor": 1.5})
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:darkroom:problem:over-budget")
    assert edit(ann, ann.picture().id, "upscale").status_code == 202


def test_a_repeated_edit_with_the_same_key_is_one_job(ann: Ann, fox: Asset) -> None:
    """As every order."""
    jobs = {edit(ann, fox.id, "upscale", Idempotency_Key="k1").json()["job_id"] for _ in range(2)}
    assert len(jobs) == 1


@pytest.mark.parametrize(
    ("image", "post", "field"),
    [
        ("fox", [], "post"),
        ("ast_nobodys", ["upscale"], "image"),
        ("fox.png", ["upscale"], "image"),
        ("file:///etc/passwd", ["upscale"], "image"),
        ("data:image/png;base64,AAAA", ["upscale"], "image"),
        ("bob's", ["upscale"], "image"),
        ("a zip", ["upscale"], "image"),
        ("fox", ["upscale"] * 9, "post"),
        ("fox", [{"step": "upscale", "factor": 4}, {"step": "upscale", "factor": 2}], "post.1.factor"),
        ("fox", [{"step": "watermark", "logo": "bob's"}], "post.0.logo"),
        ("fox", [{"step": "watermark", "logo": "a zip"}], "post.0.logo"),
        ("fox", [{"step": "watermark", "opacity": 2}], "post.0.opacity"),
        ("fox", [3], "post.0"),
    ],
)
def test_a_wrong_edit_is_refused_with_field_and_remedy(
    ann: Ann, fox: Asset, new_user: Callable[..., Ann], image: str, post: list[Any], field: str
) -> None:
    """Nothing is on record; another user's picture is none, like one that is not there."""
    ids = {"fox": fox.id, "bob's": new_user().picture().id, "a zip": ann.picture(kind="application/zip").id}
    named = [{**s, "logo": ids[s["logo"]]} if isinstance(s, dict) and s.get("logo") in ids else s for s in post]
    answer = edit(ann, ids.get(image, image), *named)
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["field"] == field
    assert problem["remedy"]
    assert ann.get("/v1/jobs").json()["items"] == []


def pay(ledger: Ledger, row: Request) -> None:
    """The call has succeeded, and its file is stored."""
    wait_until(lambda: ledger.requests.get(row.ref).status is RequestStatus.GRANTED, what="the gateway to grant it")
    assert ledger.requests.begin_submit(row.ref, deadline=timedelta(hours=1)) is not None
    ledger.requests.settle(row.ref, SUCCESS, via="webhook")
    job = ledger.jobs.get(row.job_id)
    assert job is not None
    file = StoredFile(key="k", sha256="0" * 64, content_type="image/png", bytes=1, width=1, height=1)
    ledger.assets.add(job, ref=row.ref, step=row.step, n=0, file=file)
