"""What the job of a batch can say of its rows: begin a pass, wait for all of them, ask a person.

The rows are jobs of their own, which the same run drives; here is only what they are to their batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from prefect.input import RunInput
from prefect.logging import get_run_logger

from darkroom.engine.resources import Resources
from darkroom.engine.signals import Cancelled, Waiting
from darkroom.errors import BadInput, WrongState
from darkroom.ledger import (
    CHOICE,
    ROWS,
    Batch,
    BatchPass,
    BatchRow,
    Child,
    Counts,
    Implied,
    Job,
    ManifestRow,
    RowPicture,
)


class Rows:
    def __init__(self, job: Job, resources: Resources) -> None:
        self._job = job
        self._resources = resources
        self._batches = resources.ledger.batches

    @property
    def batch(self) -> Batch | None:
        """Return the batch, or None where its manifest is not on record yet."""
        return self._batches.get(self._job.id)

    def manifest(self, *, of: Sequence[int] | None = None) -> list[BatchRow]:
        """Return the rows as they were given: all of them, or those in `of`."""
        return self._batches.rows(self._job.id, of=of)

    def counts(self) -> dict[BatchPass, Counts]:
        """Return how far each pass has come."""
        return {counts.stage: counts for counts in self._batches.counts(self._job.id)}

    def pictures(self, stage: BatchPass) -> list[RowPicture]:
        """Return the outcome of each row in a pass."""
        return self._batches.pictures(self._job.id, stage)

    def audit(self) -> Iterator[Mapping[str, Any]]:
        """Iterate over every paid call of every row, as it is on record."""
        return self._batches.audit(self._job.id)

    def open(self, rows: Sequence[ManifestRow], drafts: Sequence[Child], *, forecast: Mapping[str, str]) -> None:
        """Put the manifest on record and begin the first pass. Do nothing if that was done before.

        Raises `Cancelled` for a batch that was cancelled meanwhile.
        """
        self._begin(lambda: self._batches.open(self._job, rows, drafts, forecast=forecast))

    def add(self, stage: BatchPass, children: Sequence[Child]) -> None:
        """Begin a pass for these rows. Leave out the rows for which it has begun already. Raises as `open`."""
        self._begin(lambda: self._batches.add(self._job, stage, children))

    def wait(self) -> None:
        """Raise `Waiting` until every row has ended, whatever its outcome."""
        if any(counts.ended < counts.total for counts in self._batches.counts(self._job.id)):
            # For all of them as one: each look would else ask for ten thousand.
            raise Waiting([ROWS + self._job.id])

    def await_selection(
        self,
        *,
        patience: timedelta | None,
        read: Callable[[str], list[int]],
        form: Callable[[str | None], type[RunInput]],
    ) -> list[int] | None:
        """Return what a person chose, or None if nobody did in time. Raise `Waiting` until then.

        An answer comes from Prefect's form, as text that `read` understands, or by way of the ledger. One that is
        refused is asked for again: `form` is made with the reason.
        """
        batch = self._batches.await_selection(self._job.id, patience=patience)
        if batch.winners is not None:
            return batch.winners
        refused = self._take_answer(read)
        # Again: the answer may have been taken just now, or another have come over HTTP.
        batch = self._batches.await_selection(self._job.id, patience=patience)
        if batch.winners is not None:
            return batch.winners
        if self._resources.ledger.batches.time_is_over(batch):
            return None
        raise Waiting([CHOICE + self._job.id], form=form(refused))

    def choose(self, winners: Sequence[int], *, via: str) -> None:
        self._resources.dispatcher.carry_out(self._batches.choose(self._job.id, winners, via=via))

    def _begin(self, begin: Callable[[], Implied]) -> None:
        try:
            implied = begin()
        except WrongState as error:
            raise Cancelled(error.message) from error
        self._resources.dispatcher.carry_out(implied)

    def _take_answer(self, read: Callable[[str], Sequence[int]]) -> str | None:
        """Take the answer in Prefect's form. Return why it was refused; None if it was taken, or there is none."""
        answer = self._answer()
        if answer is None:
            return None
        try:
            self.choose(read(str(answer.get("winners", ""))), via="ui")
        except (BadInput, WrongState) as refusal:
            # Prefect says "resumed" of it all the same, and whoever answered looks at the run.
            get_run_logger().warning("The answer was not taken, and is asked for again: %s", refusal.message)
            return refusal.message
        return None

    def _answer(self) -> Mapping[str, Any] | None:
        flow_run_id = self._resources.ledger.runs.flow_run_of(self._job.id)
        return None if flow_run_id is None else self._resources.orchestrator.answer(flow_run_id)
