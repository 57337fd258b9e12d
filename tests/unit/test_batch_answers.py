"""What a person answered in Prefect's form: taken, or refused where they look."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prefect.input import RunInput

from darkroom.batches.winners import parse_winners
from darkroom.engine.batch_rows import Rows
from darkroom.engine.resources import Resources
from darkroom.engine.signals import Waiting
from darkroom.ledger import Job


class AskedBatch:
    """A ledger's batches with one that waits for a choice of four rows."""

    def await_selection(self, job_id: str, *, patience: object) -> Any:
        return SimpleNamespace(winners=None)

    def time_is_over(self, batch: object) -> bool:
        return False


def test_a_wrong_answer_is_told_in_the_runs_log_and_in_the_form(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect says "resumed" either way: who answered learns the reason at WARNING, and where they answer again."""
    log = logging.getLogger("run")
    monkeypatch.setattr("darkroom.engine.batch_rows.get_run_logger", lambda: log)
    ledger = SimpleNamespace(batches=AskedBatch(), runs=SimpleNamespace(flow_run_of=lambda _: "run"))
    orchestrator = SimpleNamespace(answer=lambda _: {"winners": "3, 99"})
    resources = cast(Resources, SimpleNamespace(ledger=ledger, orchestrator=orchestrator))
    forms: list[str | None] = []

    def form(refused: str | None) -> type[RunInput]:
        forms.append(refused)
        return RunInput

    rows = Rows(cast(Job, SimpleNamespace(id="job_1")), resources)
    with caplog.at_level(logging.WARNING), pytest.raises(Waiting):
        rows.await_selection(patience=None, read=lambda text: list(parse_winners(text, rows=4)), form=form)

    (told,) = caplog.records
    assert (told.levelname, "there is no row 99" in told.getMessage()) == ("WARNING", True)
    assert forms and "there is no row 99" in str(forms[0])
