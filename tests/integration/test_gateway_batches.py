"""Batches over HTTP: a manifest is on record whole or refused with all that is wrong; its winners, pause and pages."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

import httpx
import pytest
from ledger_scenes import FAILURE, SUCCESS
from manifest_cases import CASES, Case
from running_gateway import Customer, RunningGateway
from shared_gateway import gateway as gateway
from shared_gateway import home as home
from shared_gateway import ledger as ledger
from shared_gateway import ledger_url as ledger_url

from darkroom.ledger import JobStatus, Ledger

ROWS = [{"id": f"sku-{n}", "prompt": f"a mug, number {n}"} for n in range(4)]


@pytest.fixture(scope="module", autouse=True)
def no_slots(ledger: Ledger) -> None:
    """Nothing is granted but by the test."""
    ledger.users.set_account("fal", slots=0)


@pytest.fixture
def ann(gateway: RunningGateway, ledger: Ledger) -> Customer:
    return gateway.as_user(ledger.users.add(f"ann {uuid4().hex}", plan="studio"))


def order(customer: Customer, rows: list[dict[str, Any]] = ROWS, **options: Any) -> httpx.Response:
    return customer.post("/v1/batches", json={"rows": rows, **options})


def ordered(customer: Customer, **options: Any) -> str:
    answer = order(customer, **options)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


def drafted(customer: Customer, ledger: Ledger, *, failed: tuple[int, ...] = ()) -> str:
    """A batch of which every draft has come, but those, and of which a person was asked."""
    batch_id = ordered(customer)
    for job in ledger.batches.page(batch_id, limit=100):
        (row,) = ledger.requests.of_job(job.id)
        bad = job.manifest_row in failed
        ledger.requests.settle(row.ref, FAILURE if bad else SUCCESS, via="poll")
        ledger.jobs.finish(job.id, JobStatus.FAILED if bad else JobStatus.COMPLETED)
    ledger.batches.await_selection(batch_id, patience=None)
    return batch_id


def test_a_batch_is_on_record_with_a_cheap_draft_of_every_row(ann: Customer, ledger: Ledger) -> None:
    """And what both passes would cost at most is told before anything is paid."""
    answer = order(ann, defaults={"model": "openai/gpt-image-2"})
    assert answer.status_code == 202
    assert answer.json()["estimate_usd"] == pytest.approx(4 * (0.02 + 0.19))
    job = ann.get(answer.headers["Location"]).json()
    assert (job["kind"], job["batch"]["rows"], job["batch"]["draft"]["total"]) == ("render-batch", 4, 4)
    children = ledger.batches.page(job["id"], limit=10)
    drafts = [ledger.requests.of_job(child.id)[0] for child in children]
    assert {(row.endpoint, (row.input or {})["quality"], row.lane.name) for row in drafts} == {
        ("openai/gpt-image-2", "low", "BATCH")
    }


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b'id,prompt,seed\nsku-1,"a mug, on oak",7\n', "text/csv"),
        (b'{"id": "sku-1", "prompt": "a mug, on oak", "seed": 7}\n', "application/x-ndjson"),
    ],
)
def test_a_manifest_comes_as_a_file_too(ann: Customer, ledger: Ledger, content: bytes, content_type: str) -> None:
    """Its options are in the query then."""
    path = "/v1/batches?answer_within_hours=2&if_nobody_answers=all"
    answer = ann.post(path, content=content, Content_Type=content_type)
    assert answer.status_code == 202, answer.text
    (row,) = ledger.batches.rows(answer.json()["job_id"])
    assert (row.name, row.picture) == ("sku-1", {"prompt": "a mug, on oak", "seed": 7})
    job = ledger.jobs.get(answer.json()["job_id"])
    assert job is not None and job.parameters["if_nobody_answers"] == "all"


def given_rows(answer: httpx.Response, ledger: Ledger) -> list[tuple[str | None, dict[str, Any]]]:
    assert answer.status_code == 202, answer.text
    return [(row.name, _flat(dict(row.picture or {}))) for row in ledger.batches.rows(answer.json()["job_id"])]


def _flat(picture: dict[str, Any]) -> dict[str, Any]:
    """What the row says of its picture, without what is so anyway."""
    given = picture | picture.pop("arguments", {})
    return {name: value for name, value in given.items() if (name, value) != ("num_images", 1)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_manifest_means_the_same_as_a_file_and_in_a_body(ann: Customer, ledger: Ledger, case: Case) -> None:
    """What other programs write is read, with a warning where it was guessed, or refused with its line."""
    as_file = ann.post("/v1/batches", content=case.content, Content_Type=case.content_type)
    answers = [as_file]
    with suppress(UnicodeDecodeError):
        if b"\x00" not in case.content:
            answers.append(ann.post("/v1/batches", json={"manifest": case.content.decode()}))
    for answer in answers:
        if case.problems:
            problem = answer.json()
            assert (answer.status_code, problem["field"]) == (422, "manifest"), answer.text
            assert problem["detail"] == as_file.json()["detail"] and problem["remedy"]
            assert len(problem.get("errors", [{}])) == len(case.problems)
        else:
            assert given_rows(answer, ledger) == list(case.rows)
            assert answer.json()["warnings"] == as_file.json()["warnings"]
            assert bool(case.says) == bool(answer.json()["warnings"])


def test_a_list_alone_is_a_manifest_too(ann: Customer, ledger: Ledger) -> None:
    """As programs write it; its options are in the query then."""
    answer = ann.post("/v1/batches?if_nobody_answers=all", json=[{"id": "a", "Prompt": "a fox", "seed": "7"}])
    assert given_rows(answer, ledger) == [("a", {"prompt": "a fox", "seed": 7})]


@pytest.mark.parametrize("levels", [40, 300, 900])
@pytest.mark.parametrize("place", ["rows", "defaults", "draft", "manifest", "list", "file"])
def test_json_that_is_nested_deep_is_refused(ann: Customer, place: str, levels: int) -> None:
    """Wherever it lies, with what to do."""
    deep = '{"a":' * levels + "1" + "}" * levels
    row = '{"prompt": "a fox", "arguments": DEEP}'.replace("DEEP", deep)
    content = {
        "rows": f'{{"rows": [{row}]}}',
        "defaults": '{"rows": [{"prompt": "a fox"}], "defaults": DEEP}'.replace("DEEP", deep),
        "draft": '{"rows": [{"prompt": "a fox"}], "draft": {"arguments": DEEP}}'.replace("DEEP", deep),
        "manifest": json.dumps({"manifest": row}),
        "list": f"[{row}]",
        "file": row,
    }[place]
    content_type = "application/x-ndjson" if place == "file" else "application/json"
    answer = ann.post("/v1/batches", content=content.encode(), Content_Type=content_type)
    assert answer.status_code == 422, answer.text
    assert "nested" in answer.json()["detail"] and answer.json()["remedy"]


def test_all_that_is_wrong_with_a_manifest_is_told_by_row_and_column(ann: Customer) -> None:
    """Nothing is started, and no prompt is repeated."""
    rows = [*ROWS, {"prompt": ""}, {"prompt": "a secret", "seed": "x"}, {"prompt": "p", "flavour": "mint"}]
    answer = order(ann, rows)
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["type"].endswith("bad-manifest")
    told = {error["field"] for error in problem["errors"]}
    assert {"row 5, prompt", "row 6, seed", "row 7, flavour"} <= told
    assert "secret" not in answer.text
    assert ann.get("/v1/jobs").json()["items"] == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "rows"),
        ({"rows": ROWS, "manifest": "prompt\nx"}, "rows"),
        ({"rows": ROWS, "speed": 3}, "speed"),
        ({"rows": ROWS, "answer_within_hours": -1}, "answer_within_hours"),
        ({"rows": ROWS, "defaults": {"model": "no/such"}}, "manifest"),
    ],
)
def test_a_wrong_order_is_refused_with_its_field(ann: Customer, body: dict[str, Any], field: str) -> None:
    """As any other order."""
    answer = ann.post("/v1/batches", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text
    assert answer.json()["remedy"]


def test_the_same_key_is_the_same_batch_and_another_manifest_a_conflict(ann: Customer) -> None:
    """Also after a time-out."""
    once = uuid4().hex
    answers = [ann.post("/v1/batches", json={"rows": ROWS}, Idempotency_Key=once) for _ in range(2)]
    assert len({answer.json()["job_id"] for answer in answers}) == 1
    other = ann.post("/v1/batches", json={"rows": ROWS[:2]}, Idempotency_Key=once)
    assert (other.status_code, other.json()["field"]) == (422, "Idempotency-Key")


def test_identical_rows_are_paid_once_if_asked_for(ann: Customer, ledger: Ledger) -> None:
    """A row like one before it has no call of its own."""
    rows = [{"prompt": "a mug"}, {"prompt": "a cup"}, {"prompt": "a mug"}]
    batch_id = ordered(ann, rows=rows, deduplicate=True)
    assert [row.same_as for row in ledger.batches.rows(batch_id)] == [None, None, 0]
    assert len(ledger.batches.page(batch_id, limit=10)) == 2


def test_a_batch_beyond_the_plans_budget_is_refused(gateway: RunningGateway, ledger: Ledger) -> None:
    """With both passes counted, before anything is written."""
    ledger.users.set_plan("thrifty", in_flight=1, weight=1, daily_budget_usd=1)
    bob = gateway.as_user(ledger.users.add(f"bob {uuid4().hex}", plan="thrifty"))
    answer = order(bob, rows=[{"prompt": f"{n}", "model": "openai/gpt-image-2"} for n in range(5)])
    assert answer.status_code == 422
    assert answer.json()["type"].endswith("over-budget")


def test_winners_are_chosen_once_their_drafts_are_there(ann: Customer, ledger: Ledger) -> None:
    """The same choice again is no other; another one comes too late."""
    batch_id = drafted(ann, ledger)
    for _ in range(2):
        answer = ann.post(f"/v1/batches/{batch_id}/selection", json={"winners": [2, 0]})
        assert (answer.status_code, answer.json()["batch"]["winners"]) == (202, [0, 2]), answer.text
    late = ann.post(f"/v1/batches/{batch_id}/selection", json={"winners": [1]})
    assert (late.status_code, late.json()["title"]) == (409, "Wrong state")


def test_a_wrong_choice_names_the_rows_and_can_be_made_again(ann: Customer, ledger: Ledger) -> None:
    """Nothing is chosen by it."""
    batch_id = drafted(ann, ledger, failed=(3,))
    for winners in ([0, 3], [7], [-1], [0, 0], ["all"], [True]):
        answer = ann.post(f"/v1/batches/{batch_id}/selection", json={"winners": winners})
        assert answer.status_code == 422, answer.text
        assert answer.json()["field"].startswith("winners")
    assert ann.post(f"/v1/batches/{batch_id}/selection", json={"winners": [0]}).status_code == 202


def test_numbers_mean_the_same_as_in_prefects_form(ann: Customer, ledger: Ledger) -> None:
    """As they stand on the contact sheet, from 1; a child says both of its numbers."""
    batch_id = drafted(ann, ledger, failed=(3,))
    path = f"/v1/batches/{batch_id}/selection"
    for wrong, said in [("3, 9", "there is no row 9"), ("4", "as it failed: 4"), ("", "nothing was chosen")]:
        refusal = ann.post(path, json={"numbers": wrong})
        assert (refusal.status_code, refusal.json()["field"]) == (422, "numbers")
        assert said in refusal.json()["detail"]
    assert ann.post(path, json={"numbers": "1", "winners": [0]}).status_code == 422
    answer = ann.post(path, json={"numbers": "3, 1"})
    assert (answer.status_code, answer.json()["batch"]["winners"], answer.json()["batch"]["numbers"]) == (
        202,
        [0, 2],
        "1, 3",
    )
    children = ann.get(f"/v1/jobs/{batch_id}/children").json()["items"]
    assert [(child["row"], child["number"]) for child in children] == [(n, n + 1) for n in range(4)]
    early = ann.post(f"/v1/batches/{ordered(ann)}/selection", json={"numbers": "99"})
    assert (early.status_code, "not done yet" in early.json()["detail"]) == (409, True)


def test_a_choice_before_the_drafts_are_done_is_too_early(ann: Customer) -> None:
    """It says when to come again."""
    answer = ann.post(f"/v1/batches/{ordered(ann)}/selection", json={"winners": [0]})
    assert (answer.status_code, "not done yet" in answer.json()["detail"]) == (409, True)


def test_a_batch_is_paused_and_goes_on(ann: Customer, ledger: Ledger) -> None:
    """The document says since when; and what its rows wait for."""
    batch_id = ordered(ann)
    paused = ann.post(f"/v1/batches/{batch_id}/pause")
    assert paused.json()["batch"]["paused_at"] is not None
    child = ann.get(f"/v1/jobs/{batch_id}/children").json()["items"][0]
    assert ann.get(f"/v1/jobs/{child['id']}").json()["waiting_for"].startswith("its batch, which is paused since ")
    assert ann.post(f"/v1/batches/{batch_id}/resume").json()["batch"]["paused_at"] is None


def test_its_rows_are_paged_in_the_manifests_order(ann: Customer) -> None:
    """Each with its place and its pass."""
    batch_id = ordered(ann)
    first = ann.get(f"/v1/jobs/{batch_id}/children?limit=3").json()
    rest = ann.get(f"/v1/jobs/{batch_id}/children?limit=3&cursor={first['next']}").json()
    rows = [(item["row"], item["stage"], item["status"]) for item in first["items"] + rest["items"]]
    assert rows == [(n, "draft", "pending") for n in range(4)]
    assert rest["next"] is None
    assert ann.get(f"/v1/jobs/{batch_id}/children?cursor=x").status_code == 422


def test_rows_are_listed_by_pass_and_by_when_they_ended(ann: Customer, ledger: Ledger) -> None:
    """So a page that shows them asks for what is new alone."""
    batch_id = ordered(ann)
    ended = ledger.batches.page(batch_id, limit=9)[2]
    ledger.jobs.finish(ended.id, JobStatus.COMPLETED)
    path = f"/v1/jobs/{batch_id}/children"
    at = ann.get(f"/v1/jobs/{ended.id}").json()["finished_at"].replace("+", "%2B")
    assert [each["row"] for each in ann.get(f"{path}?stage=draft&finished_since={at}").json()["items"]] == [2]
    assert ann.get(f"{path}?stage=final").json()["items"] == []
    assert ann.get(f"{path}?finished_since=yesterday").status_code == 422


def test_the_price_of_a_choice_is_told_before_it_is_made(ann: Customer, ledger: Ledger) -> None:
    """Of the finals, and what the choice saves against every row at its final quality; nothing is chosen by it."""
    batch_id = ordered(ann, defaults={"model": "openai/gpt-image-2"})
    path = f"/v1/batches/{batch_id}/selection/quote"
    quote = ann.post(path, json={"numbers": "1, 3"}).json()
    assert (quote["winners"], quote["finals"]) == (2, 2)
    assert quote["estimate_usd"] == pytest.approx(2 * 0.19)
    assert quote["saved_usd"] == pytest.approx(4 * 0.19 - 4 * 0.02 - 2 * 0.19)
    assert ann.post(path, json={"numbers": ""}).json()["estimate_usd"] == 0
    assert ann.post(path, json={"numbers": "9"}).json()["field"] == "numbers"
    assert ann.get(f"/v1/jobs/{batch_id}").json()["batch"]["winners"] is None
    eve = ann.http.post(path, json={"numbers": "1"}, headers={"Authorization": "Bearer dk_nobody"})
    assert eve.status_code == 401
    # What is drafted as it is wanted is not made twice.
    as_drafted = ordered(ann, defaults={"model": "fal-ai/flux/schnell"})
    free = ann.post(f"/v1/batches/{as_drafted}/selection/quote", json={"winners": [0, 1]}).json()
    assert (free["winners"], free["finals"], free["estimate_usd"]) == (2, 0, 0)


def test_a_row_is_rendered_again_exactly_as_it_was(ann: Customer, ledger: Ledger) -> None:
    """At any age, as a job of its own, with the input on record; a batch as one is not."""
    batch_id = ordered(ann, defaults={"model": "openai/gpt-image-2"})
    child = ledger.batches.page(batch_id, limit=1)[0]
    answer = ann.post(f"/v1/jobs/{child.id}/repeat")
    assert answer.status_code == 202, answer.text
    (was,), (row,) = ledger.requests.of_job(child.id), ledger.requests.of_job(answer.json()["job_id"])
    assert (row.endpoint, row.input, row.input_hash) == (was.endpoint, was.input, was.input_hash)
    again = ledger.jobs.get(answer.json()["job_id"])
    assert again is not None and (again.parent_id, again.parameters) == (None, child.parameters)
    assert ann.post(f"/v1/jobs/{batch_id}/repeat").status_code == 409


def test_a_batch_is_ordered_again_with_one_change(ann: Customer, ledger: Ledger) -> None:
    """Its rows without what its defaults said, which may be said otherwise now; secrets in them are not shown."""
    signed = "https://bucket.example/a.png?X-Amz-Signature=abc"
    rows = [{"id": "sku-1", "prompt": "a mug"}, {"prompt": "a cup", "quality": "medium", "image_size": "1536x1024"}]
    model = {"model": "openai/gpt-image-2"}
    first = ordered(ann, rows=rows, defaults=model | {"quality": "high"}, deduplicate=True)
    shown = ann.get(f"/v1/batches/{first}/manifest").json()["rows"]
    size = {"width": 1536, "height": 1024}
    assert shown == [rows[0], {"prompt": "a cup", "image_size": size, "arguments": {"quality": "medium"}}]
    change = {"rows_of": first, "defaults": model | {"quality": "low"}}
    quote = ann.post("/v1/quotes", json={"kind": "render-batch", "order": change}).json()
    again = ann.post("/v1/batches", json=change)
    assert again.status_code == 202 and again.json()["estimate_usd"] == pytest.approx(quote["estimate_usd"])
    asked = [(row.name, (row.picture or {})["arguments"]) for row in ledger.batches.rows(again.json()["job_id"])]
    assert asked == [("sku-1", {"quality": "low"}), (None, {"quality": "medium"})]

    upscaled = ordered(ann, rows=[{"image_url": signed}], defaults={"model": "fal-ai/esrgan"})
    assert "abc" not in ann.get(f"/v1/batches/{upscaled}/manifest").text
    made = ann.post("/v1/batches", json={"rows_of": upscaled, "defaults": {"model": "fal-ai/esrgan"}}).json()
    assert (ledger.batches.rows(made["job_id"])[0].picture or {})["arguments"] == {"image_url": signed}


def test_the_rows_of_an_order_are_one_batchs_or_its_own(ann: Customer, gateway: RunningGateway, ledger: Ledger) -> None:
    """Not both, not another user's, and not those of what is no batch."""
    batch_id = ordered(ann)
    eve = gateway.as_user(ledger.users.add(f"eve {uuid4().hex}"))
    picture = ann.order().json()["job_id"]
    for who, body in (
        (ann, {"rows_of": batch_id, "rows": ROWS}),
        (eve, {"rows_of": batch_id}),
        (ann, {"rows_of": picture}),
    ):
        for path, sent in (("/v1/batches", body), ("/v1/quotes", {"kind": "render-batch", "order": body})):
            answer = who.post(path, json=sent)
            assert (answer.status_code, answer.json()["field"][:4]) == (422, "rows"), answer.text


def test_another_users_batch_is_not_there(ann: Customer, gateway: RunningGateway, ledger: Ledger) -> None:
    """Whatever is asked of it; nor is a picture a batch."""
    batch_id = ordered(ann)
    eve = gateway.as_user(ledger.users.add(f"eve {uuid4().hex}"))
    picture = ann.order().json()["job_id"]
    asked: list[Callable[[], httpx.Response]] = [
        lambda: eve.post(f"/v1/batches/{batch_id}/selection", json={"winners": []}),
        lambda: eve.post(f"/v1/batches/{batch_id}/pause"),
        lambda: eve.post(f"/v1/batches/{batch_id}/selection/quote", json={"winners": []}),
        lambda: ann.post(f"/v1/batches/{picture}/selection/quote", json={"winners": []}),
        lambda: eve.get(f"/v1/jobs/{batch_id}/children"),
        lambda: eve.get(f"/v1/batches/{batch_id}/manifest"),
        lambda: ann.get(f"/v1/batches/{picture}/manifest"),
        lambda: ann.post(f"/v1/batches/{picture}/pause"),
    ]
    assert {ask().status_code for ask in asked} == {404}


def test_a_megabyte_of_rows_is_taken_and_looked_at(ann: Customer) -> None:
    """In one call each. Ten thousand rows are not written one by one: `test_ledger_batches.py`."""
    rows = [{"id": f"sku-{n}", "prompt": f"a mug, number {n}{'!' * 1000}", "seed": n} for n in range(1000)]
    batch_id = ordered(ann, rows=rows)
    assert ann.get(f"/v1/jobs/{batch_id}").json()["batch"]["draft"]["total"] == 1000
