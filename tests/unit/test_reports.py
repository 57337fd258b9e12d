"""What a run shows in Prefect of the batch that it carries."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

from prefect.logging import disable_run_logger
from pydantic import SecretStr

from darkroom.clock import utc_now
from darkroom.engine.job import Job
from darkroom.engine.resources import Resources
from darkroom.engine.ui.report import Reports
from darkroom.ledger import BatchPass, Counts, JobStatus
from darkroom.settings import Settings


def test_the_last_word_on_a_batch_is_shown() -> None:
    """Its bar would else stand where it was some seconds before, as the ledger takes no news of what has ended."""
    shown: list[dict[str, Any]] = []
    counts = Counts(
        stage=BatchPass.FINAL,
        statuses={JobStatus.COMPLETED: 3},
        in_flight=0,
        last_minute=3,
        calls=3,
        cost_usd=Decimal("0.09"),
    )
    resources = SimpleNamespace(
        ledger=SimpleNamespace(
            batches=SimpleNamespace(counts=lambda _: [counts]),
            jobs=SimpleNamespace(progress=lambda *_: False, first_of=lambda _: "job_1"),
        ),
        orchestrator=SimpleNamespace(show_progress=lambda _, **bar: shown.append(bar)),
    )
    reports = Reports(cast(Resources, resources), uuid4())
    with reports.sending():
        reports.watch_rows("job_1")
    assert shown == [{"key": "progress", "percent": 100.0, "text": "finals: 3 of 3, $0.09"}]


def test_a_line_without_its_link_does_not_fail_the_run() -> None:
    """A worker without the key that signs links: what the job came to is on record by then."""
    asset = SimpleNamespace(id="ast_1", width=8, height=8, bytes=9, hidden=False)
    job = SimpleNamespace(id="job_1", calls=(), assets=[asset], created_at=utc_now())
    shown: list[dict[str, Any]] = []
    resources = SimpleNamespace(
        clock=utc_now,
        settings=Settings(signing_key=SecretStr("")),
        orchestrator=SimpleNamespace(show_table=lambda _, **table: shown.append(table)),
    )
    reports = Reports(cast(Resources, resources), uuid4())
    with disable_run_logger(), reports.sending():
        reports.add(cast(Job, job), JobStatus.COMPLETED, None)
    assert [each["table"] for each in shown] == [[{"Job": "job_1", "Ended": "completed"}]]
