"""What a run shows in Prefect of the batch that it carries."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

from darkroom.engine.resources import Resources
from darkroom.engine.ui.report import Reports
from darkroom.ledger import BatchPass, Counts, JobStatus


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
