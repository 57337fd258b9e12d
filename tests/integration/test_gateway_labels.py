"""Tags and metadata: on every order, on record with its job, and what jobs are found by."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from ledger_databases import Db
from running_gateway import RunningGateway
from support import wait_until

from darkroom.ledger import Ledger, NewKey, Search

LABELS = {"tags": ["spring", "shop-7", "spring"], "metadata": {"order": "o-1"}}
ORDERS: dict[str, dict[str, Any]] = {
    "/v1/images": {"prompt": "a fox"},
    "/v1/debates": {"topic": "coffee or tea", "brands": ["Foxbrew", "Kettle"]},
    "/v1/batches": {"rows": [{"prompt": "a red mug"}]},
    "/v1/orders/import-images": {"urls": ["https://example.com/a.png"], "product": "mug"},
}


@pytest.fixture
def ann(ledger: Ledger) -> NewKey:
    return ledger.users.add("ann")


def order(
    gateway: RunningGateway, ann: NewKey, path: str = "/v1/images", *, key: str | None = None, **body: Any
) -> httpx.Response:
    named = {"Idempotency_Key": key} if key else {}
    return gateway.as_user(ann).post(path, json=ORDERS[path] | body, **named)


@pytest.mark.parametrize("path", ORDERS)
def test_every_order_takes_labels(gateway: RunningGateway, ledger: Ledger, ann: NewKey, path: str) -> None:
    """They are in the job's document, each tag once, and not among what its pipeline is given."""
    answer = order(gateway, ann, path, **LABELS)
    assert answer.status_code == 202, answer.text
    job = gateway.as_user(ann).get(answer.headers["Location"]).json()
    assert (job["tags"], job["metadata"]) == (["spring", "shop-7"], {"order": "o-1"})
    stored = ledger.jobs.get(job["id"])
    assert stored is not None and not {"tags", "metadata"} & set(stored.parameters)


@pytest.mark.parametrize(
    ("labels", "field"),
    [
        ({"tags": [str(n) for n in range(21)]}, "tags"),
        ({"tags": ["x" * 101]}, "tags.0"),
        ({"tags": ["a\u0000b"]}, "tags"),
        ({"tags": [" "]}, "tags.0"),
        ({"metadata": {"text": "x" * 4090}}, "metadata"),
        ({"metadata": ["a list"]}, "metadata"),
    ],
)
def test_labels_are_bounded(gateway: RunningGateway, ann: NewKey, labels: dict[str, Any], field: str) -> None:
    """Twenty tags, 4 KiB of metadata; what is wrong is named, and nothing is on record."""
    refused = order(gateway, ann, **labels)
    assert (refused.status_code, refused.json()["field"]) == (422, field)
    assert gateway.as_user(ann).get("/v1/jobs").json()["items"] == []


def test_an_order_with_other_labels_is_another_order(gateway: RunningGateway, ann: NewKey) -> None:
    """Under one Idempotency-Key; the same labels again are the same order."""
    first = order(gateway, ann, key="k", **LABELS).json()["job_id"]
    assert order(gateway, ann, key="k", **LABELS).json()["job_id"] == first
    assert order(gateway, ann, key="k", tags=["autumn"]).status_code == 422
    again = gateway.as_user(ann).post(f"/v1/jobs/{first}/repeat").json()["job_id"]
    assert gateway.as_user(ann).get(f"/v1/jobs/{again}").json()["tags"] == ["spring", "shop-7"]


def test_jobs_are_found_by_tag_and_by_words_of_the_prompt(gateway: RunningGateway, ann: NewKey) -> None:
    """All tags that are asked for, the text anywhere and in any case; its signs mean themselves."""
    made = {
        name: order(gateway, ann, prompt=prompt, tags=tags).json()["job_id"]
        for name, prompt, tags in (
            ("fox", "A red Fox in the snow", ["spring", "red"]),
            ("mug", "50% off: a red_mug", ["spring"]),
            ("owl", "an owl", []),
        )
    }

    def found(query: str) -> list[str]:
        items = gateway.as_user(ann).get(f"/v1/jobs?{query}").json()["items"]
        return [name for job in items for name, id in made.items() if id == job["id"]]

    assert found("tag=spring") == ["mug", "fox"]
    assert found("tag=spring&tag=red") == ["fox"]
    assert found("q=fox%20in") == ["fox"]
    assert found("q=red&tag=spring&limit=1") == ["mug"]
    assert found("q=50%25") == ["mug"] and found("q=d_m") == ["mug"] and found("q=x_i") == []
    assert found("q=an") == ["owl"]
    assert gateway.as_user(ann).get("/v1/jobs?q=a").status_code == 422


def test_orders_without_a_prompt_of_their_own_are_found_by_their_words(
    gateway: RunningGateway, ledger: Ledger, ann: NewKey
) -> None:
    """By the model's input, a speech's text, a film's topic; and not by what is no text of theirs."""
    orders = {
        "film": {"model": "fal-ai/veo3", "input": {"prompt": "A heron lands"}},
        "speech": {"model": "fal-ai/kokoro", "input": {"text": "Good morning, herons"}},
        "debate": {"topic": "Herons or storks?"},
        "training": {"trigger_word": "heron"},
    }
    made = {ledger.jobs.post(user_id=ann.user_id, kind="x", parameters=it).job.id: name for name, it in orders.items()}
    for search, names in {"HERON": {"film", "speech", "debate"}, "veo3": set(), "heron%20lands": {"film"}}.items():
        items = gateway.as_user(ann).get(f"/v1/jobs?q={search}").json()["items"]
        assert {made[job["id"]] for job in items} == names


def test_what_is_looked_for_is_found_by_an_index(ledger: Ledger, db: Db, ann: NewKey) -> None:
    """Among thousands of one user's jobs, however often it was looked for before."""
    db.execute(
        "INSERT INTO job (id, user_id, kind, status, slotless, parameters, tags, created_at) "
        "SELECT 'job_' || n, %s, 'generate-image', 'completed', false, "
        "jsonb_build_object('prompt', md5(n::text) || ' ' || md5((n * 7)::text)), "
        "CASE n %% 1000 WHEN 0 THEN ARRAY['rare'] ELSE ARRAY['common'] END, now() FROM generate_series(1, 20000) AS n",
        [ann.user_id],
    )
    db.execute(
        "INSERT INTO job (id, user_id, kind, status, slotless, parameters, created_at) "
        "SELECT 'run_' || n, %s, 'run-model', 'completed', false, jsonb_build_object('input', "
        "jsonb_build_object('prompt', md5((n * 7)::text) || ' ' || md5(n::text))), now() "
        "FROM generate_series(1, 20000) AS n",
        [ann.user_id],
    )
    db.execute("VACUUM ANALYZE job")
    common = sorted((f"job_{n}" for n in range(1, 20_001) if n % 1000), reverse=True)  # ordered at the same moment
    word = "c4ca4238a0b9"  # how the first one's begins, and how the last one's ends
    for search in (Search(text=word), Search(tags=["rare"])):
        for _ in range(8):
            found = ledger.jobs.page(ann.user_id, limit=50, search=search)
        assert len(found) == (2 if search.text else 20)
    for user_id in (ann.user_id, None):  # too many to be found by the index and sorted
        search = Search(tags=["common"])
        newest = ledger.jobs.page(user_id, limit=50, search=search)
        after = ledger.jobs.page(user_id, limit=50, search=search, before=(newest[-1].created_at, newest[-1].id))
        assert [job.id for job in newest + after] == common[:100]
    ledger.close()  # then its connections have told what they used
    indexes = (
        "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname IN ('job_tagged', 'job_prompt', 'job_words')"
    )
    wait_until(
        lambda: [row["idx_scan"] >= 8 for row in db.execute(indexes)] == [True, True, True], what="the indexes' use"
    )
