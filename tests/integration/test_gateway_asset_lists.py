"""Files over HTTP: listed by what made them, newest first, and deleted by their owners."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from asset_rows import brought, made, picture
from running_gateway import Customer, RunningGateway
from shared_gateway import ann as ann
from shared_gateway import gateway as gateway
from shared_gateway import home as home
from shared_gateway import ledger_url as ledger_url
from shared_gateway import store as store

from darkroom.ledger import JobStatus, Ledger, NewKey, new_id
from darkroom.media.store import MediaStore

FLUX, BANANA = "fal-ai/flux/dev", "fal-ai/nano-banana"


@pytest.fixture
def her(gateway: RunningGateway, ann: NewKey) -> Customer:
    return gateway.as_user(ann)


def ids(customer: Customer, query: str = "") -> list[str]:
    answer = customer.get(f"/v1/assets{query}")
    assert answer.status_code == 200, answer.text
    return [each["id"] for each in answer.json()["items"]]


def test_files_are_listed_page_by_page(her: Customer, ledger: Ledger, store: MediaStore, ann: NewKey) -> None:
    """Newest first, each once, with the model, the prompt and the tags it was ordered with."""
    files = [made(ledger, store, ann, prompt=f"fox {n}", model=FLUX, tags=("spring",)) for n in range(5)]
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        page = her.get(f"/v1/assets?limit=2&cursor={cursor}").json()
        seen += [each["id"] for each in page["items"]]
        cursor = page["next"]
    assert seen == [each.id for each in reversed(files)]
    (newest,) = her.get("/v1/assets?limit=1").json()["items"]
    assert (newest["model"], newest["prompt"], newest["tags"]) == (FLUX, "fox 4", ["spring"])
    assert newest["job_id"] == files[-1].job_id and "signature=" in newest["url"]


def test_files_are_found_by_what_made_them(her: Customer, ledger: Ledger, store: MediaStore, ann: NewKey) -> None:
    """By kind, model, job, tag and a text of the prompt, also of a model's own input; what was brought is there too."""
    fox = made(ledger, store, ann, prompt="a red fox", model=FLUX, tags=("spring", "shop"))
    film = made(ledger, store, ann, prompt="100% owl", model=BANANA, content_type="video/mp4", within_input=True)
    mesh = made(ledger, store, ann, prompt="a chair", model=BANANA, content_type="model/gltf-binary")
    logo = brought(ledger, store, ann)
    found = {
        "?kind=image": [logo.id, fox.id],
        "?kind=video": [film.id],
        f"?since={film.created_at.isoformat().replace('+', '%2B')}&kind=video": [film.id],
        "?since=2999-01-01T00:00:00Z": [],
        "?kind=other": [mesh.id],
        f"?model={FLUX}": [fox.id],
        f"?job={mesh.job_id}": [mesh.id],
        "?tag=spring&tag=shop": [fox.id],
        "?tag=spring&tag=autumn": [],
        "?q=RED": [fox.id],
        "?q=0%25 o": [film.id],
        "": [logo.id, mesh.id, film.id, fox.id],
    }
    for query, expected in found.items():
        assert ids(her, query) == expected, query
    assert her.get("/v1/assets?kind=painting").json()["field"] == "kind"
    assert her.get("/v1/assets?cursor=x").json()["field"] == "cursor"


def test_a_file_tells_what_it_was_ordered_by(her: Customer, ledger: Ledger, store: MediaStore, ann: NewKey) -> None:
    """With a key, as JSON."""
    fox = made(ledger, store, ann, prompt="a red fox", model=FLUX)
    told = her.get(f"/v1/assets/{fox.id}", Accept="application/json").json()
    assert (told["job_id"], told["model"], told["step"]) == (fox.job_id, FLUX, "generate")
    assert datetime.fromisoformat(told["created_at"]) <= datetime.now(UTC)


def test_a_deleted_file_is_gone(her: Customer, ledger: Ledger, store: MediaStore, home: Path, ann: NewKey) -> None:
    """From the store with its small pictures, from lists and from its job; to ask twice is as to ask once."""
    fox = made(ledger, store, ann, prompt="a fox", model=FLUX)
    assert her.get(f"/v1/assets/{fox.id}?w=160").status_code == 200
    assert list(home.glob(f"thumbnails/**/{fox.sha256}/*")) and (home / fox.key).exists()
    for _ in range(2):
        assert her.delete(f"/v1/assets/{fox.id}").status_code == 204
    assert not list(home.glob(f"thumbnails/**/{fox.sha256}/*")) and not (home / fox.key).exists()
    assert ids(her) == [] and her.get(f"/v1/assets/{fox.id}").status_code == 404
    job = her.get(f"/v1/jobs/{fox.job_id}").json()
    assert (job["assets"], job["preview"]) == ([], None)


def test_what_is_still_needed_is_not_deleted(her: Customer, ledger: Ledger, store: MediaStore, ann: NewKey) -> None:
    """By the job that makes it, and by one that was ordered with it; after their ends it may go."""
    fox = made(ledger, store, ann, prompt="a fox", model=FLUX, ended=False)
    assert her.delete(f"/v1/assets/{fox.id}").status_code == 409
    assert fox.job_id is not None
    ledger.jobs.finish(fox.job_id, JobStatus.COMPLETED)
    parameters = {"model": BANANA, "input": {"image_urls": [f"asset:{fox.id}"]}}
    editing = ledger.jobs.post(user_id=ann.user_id, kind="run-model", parameters=parameters).job
    refused = her.delete(f"/v1/assets/{fox.id}")
    assert refused.status_code == 409 and editing.id in refused.json()["detail"] and refused.json()["remedy"]
    assert store.read(fox.key) == picture()
    ledger.jobs.finish(editing.id, JobStatus.FAILED)
    assert her.delete(f"/v1/assets/{fox.id}").status_code == 204


def test_bytes_that_another_file_needs_stay(her: Customer, ledger: Ledger, store: MediaStore, ann: NewKey) -> None:
    """A file that serves two jobs lies in the store once."""
    first = made(ledger, store, ann, prompt="a fox", model=FLUX)
    second = made(ledger, store, ann, prompt="a fox", model=FLUX, name=first.key)
    assert her.delete(f"/v1/assets/{first.id}").status_code == 204
    assert her.get(f"/v1/assets/{second.id}").content == picture()
    assert her.delete(f"/v1/assets/{second.id}").status_code == 204
    with pytest.raises(Exception, match=r"(?i)nothing|missing|not"):
        store.read(first.key)


def test_nobody_lists_or_deletes_anothers_files(
    gateway: RunningGateway, ledger: Ledger, store: MediaStore, ann: NewKey
) -> None:
    """Also not by their job, or with a key that may only read."""
    fox = made(ledger, store, ann, prompt="a fox", model=FLUX)
    bob = gateway.as_user(ledger.users.add(new_id("bob_")))
    assert ids(bob) == ids(bob, f"?job={fox.job_id}") == ids(bob, "?q=fox") == []
    assert bob.delete(f"/v1/assets/{fox.id}").status_code == 404
    assert store.read(fox.key) == picture()
