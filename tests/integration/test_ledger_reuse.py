"""An answer that serves again, beside whoever deletes a file of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from interleaving import overlap
from ledger_databases import Db
from ledger_scenes import KIND, SUCCESS, picture_in_flight, post, spec

from darkroom.errors import WrongState
from darkroom.ledger import Asset, JobStatus, Ledger, Request, RequestStatus, StoredFile

FOX = "a fox, enlarged"
AGAIN = spec(step="upscale", reuse_hash=FOX)


@pytest.fixture
def ann(ledger: Ledger) -> str:
    return ledger.users.add("ann", plan="pro").user_id


@pytest.fixture
def asset(ledger: Ledger, ann: str) -> Asset:
    """The file of an answer that may serve again."""
    picture = picture_in_flight(ledger, ann, reuse_hash=FOX)
    picture.settle(SUCCESS)
    file = StoredFile(key="images/fox.png", sha256="0" * 64, content_type="image/png", bytes=1)
    asset = ledger.assets.add(picture.job, ref=picture.ref, step="generate", n=0, file=file)
    ledger.jobs.finish(picture.job_id, JobStatus.COMPLETED)
    return asset


def order(ledger: Ledger, user_id: str) -> str:
    parameters = {"prompt": "a fox"}
    return ledger.jobs.post(user_id=user_id, kind=KIND, parameters=parameters, first=AGAIN).job.id


ASKS: dict[str, Callable[[Ledger, str], Callable[[], Request]]] = {
    "an order": lambda ledger, user_id: lambda: ledger.requests.of_job(order(ledger, user_id))[0],
    "a step": lambda ledger, user_id: _step_of(ledger, post(ledger, user_id).id),
}
asks = pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS.keys())


def _step_of(ledger: Ledger, job_id: str) -> Callable[[], Request]:
    return lambda: ledger.requests.reserve_all(job_id, [AGAIN])[0]


@asks
def test_a_file_whose_answer_is_just_serving_again_is_not_deleted(
    ledger: Ledger, db: Db, ann: str, asset: Asset, ask: Callable[[Ledger, str], Callable[[], Request]]
) -> None:
    """Whoever deletes it waits for the order that uses it, and is told which that is."""

    def delete() -> None:
        with pytest.raises(WrongState, match="needs this file"):
            ledger.assets.delete(asset.id, user_id=ann)

    call, _ = overlap(db, ask(ledger, ann), delete, at="INSERT ON request")
    assert (call.status, call.reused_from) == (RequestStatus.SUCCEEDED, asset.ref)
    job = ledger.jobs.get(call.job_id)
    assert job is not None
    assert len(ledger.assets.reuse(job, ref=call.ref, reused_from=asset.ref or "", step="upscale")) == 1


@asks
def test_an_answer_whose_file_is_just_being_deleted_does_not_serve_again(
    ledger: Ledger, db: Db, ann: str, asset: Asset, ask: Callable[[Ledger, str], Callable[[], Request]]
) -> None:
    """It is asked for anew."""
    deleted, call = overlap(
        db, lambda: ledger.assets.delete(asset.id, user_id=ann), ask(ledger, ann), at="UPDATE ON asset"
    )
    assert deleted is not None and deleted.remove_file
    assert (call.status, call.reused_from) == (RequestStatus.QUEUED, None)
