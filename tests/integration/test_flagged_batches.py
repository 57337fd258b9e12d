"""What becomes of a batch's rows whose pictures their model flags: kept and marked, hidden, or failed with a reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from echoing import EchoProvider, call, opened_resources, until_it_has_come
from running_gateway import gateway_alone
from simulated_fal import SimulatedFal
from support import wait_until

from darkroom.engine.registry import find
from darkroom.engine.resources import Resources, using
from darkroom.errors import Permanent
from darkroom.flows.parts.batch_order import BatchOptions, plan_batch
from darkroom.flows.parts.batch_review import contact_pages
from darkroom.flows.parts.trained_style import TRIAL
from darkroom.ledger import Job, JobStatus, Ledger, Outcome, Request
from darkroom.providers.fal import Fal
from darkroom.providers.fal.provider import FalProvider
from darkroom.providers.registry import Providers


class AtOnce(FalProvider):
    """fal, as if the answer to a submit were the end of the call."""

    immediate = True

    def submit(self, row: Request, input: Mapping[str, Any], *, webhook_url: str | None) -> Outcome:
        taken = super().submit(row, input, webhook_url=webhook_url)
        assert not isinstance(taken, Outcome)
        accepted = Request(**{**vars(row), "request_id": taken.request_id})
        return wait_until(lambda: self.poll(accepted), what="the picture")


@pytest.fixture
def resources(ledger: Ledger, simulator: SimulatedFal, tmp_path: Path) -> Iterator[Resources]:
    with Fal("sim:key") as fal, opened_resources(ledger, EchoProvider(), tmp_path / "store") as opened:
        given = Resources(**{**vars(opened), "providers": Providers({"fal": lambda: AtOnce(fal)})})
        with using(given):
            yield given


def drafted(resources: Resources, user_id: str, prompts: list[str], *, flagged: str) -> Job:
    """A batch of which every draft has ended, each run as its flow runs it."""
    ledger, order = resources.ledger, BatchOptions.model_validate({"flagged": flagged})
    rows = [{"prompt": prompt, "image_size": "square"} for prompt in prompts]
    plan = plan_batch(rows, order, style=lambda _: TRIAL)
    batch = ledger.jobs.post(user_id=user_id, kind="render-batch", parameters={"flagged": flagged}).job
    resources.dispatcher.carry_out(
        ledger.batches.open(batch, plan.rows, plan.drafts, forecast=plan.forecast.document())
    )
    for row in ledger.batches.page(batch.id, limit=9):
        try:
            result = until_it_has_come(resources, row.id, find(row.kind).call)
            ledger.jobs.finish(row.id, JobStatus.COMPLETED, result=result)
        except Permanent as error:
            ledger.jobs.finish(row.id, JobStatus.FAILED, error=error.document())
    return batch


@pytest.mark.parametrize(
    ("flagged", "status", "has_url"),
    [("keep", "completed", True), ("hide", "completed", False), ("fail", "failed", False)],
)
def test_a_batch_does_with_flagged_rows_as_it_says(
    resources: Resources,
    ledger_url: str,
    tmp_path: Path,
    simulator: SimulatedFal,
    flagged: str,
    status: str,
    has_url: bool,
) -> None:
    """Marked in any case; a hidden one has no address, a failed one says why; the rest is shown."""
    naked = f"a naked fox {uuid4().hex}"
    simulator.rule(match=naked, flagged=True)
    ann = resources.ledger.users.add("ann", plan="studio")
    batch = drafted(resources, ann.user_id, ["a fox in a coat", naked], flagged=flagged)

    with gateway_alone(ledger_url, tmp_path, media=resources.store) as gateway:
        customer = gateway.as_user(ann)
        listed = customer.get(f"/v1/jobs/{batch.id}/children").json()["items"]
        clean, bare = (customer.get(f"/v1/jobs/{row['id']}").json() for row in listed)
    assert [(each["flagged"], each["hidden"], each["url"] is not None) for each in clean["assets"]] == [
        (False, False, True)
    ]
    assert [(each["flagged"], each["hidden"], each["url"] is not None) for each in bare["assets"]] == [
        (True, not has_url, has_url)
    ]
    assert (clean["status"], bare["status"]) == ("completed", status)
    assert (bare["error"] or {}).get("code") == ("flagged" if flagged == "fail" else None)
    assert len(contact_pages(call(resources, batch.id))) == 1
