"""What lists of jobs show: pages of them, and what each was ordered for, has cost and has made, for a page at once.

A page asks once for all of its jobs: a statement for each of two hundred would be most of the answer's time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from darkroom.ledger.database import plain, run, run_given
from darkroom.ledger.labels import EVERYTHING, Search
from darkroom.ledger.part import Part
from darkroom.ledger.statuses import JobStatus
from darkroom.ledger.tables import Asset, Job

MANY_FOUND = 5000  # by tags and words: to read and sort these takes about as long as to find 51 of them in a million


@dataclass(frozen=True, kw_only=True)
class JobUsage:
    """Of one job, in USD: what it was estimated at, None where nobody knows; and what was paid, as far as is known.

    Of a batch with all of its rows. `price_usd`: the cost with its plan's mark-up.
    """

    estimate_usd: Decimal | None = None
    cost_usd: Decimal = Decimal(0)
    price_usd: Decimal = Decimal(0)


class JobLists(Part):
    def page(
        self,
        user_id: str | None,
        *,
        limit: int,
        before: tuple[datetime, str] | None = None,
        status: JobStatus | None = None,
        kind: str | None = None,
        since: datetime | None = None,
        search: Search = EVERYTHING,
    ) -> list[Job]:
        """Return a page of the user's jobs, or of everybody's for None, newest first. Leave out rows of batches.

        `before` is the time and id of the last one of the page before. `since`: only jobs ordered then or later.
        """
        before_at, before_id = before or (None, None)
        statement = "jobs_page_of_all" if user_id is None else "jobs_page"
        wanted: dict[str, Any] = {"status": status, "kind": kind, "since": since, **search.parameters()}
        if search.tags or search.text is not None:
            statement = "jobs_search"
            wanted["many"] = MANY_FOUND
        with self._engine.begin() as connection:
            if any(value is not None for value in wanted.values()):
                run(connection, "plan_anew")  # which index serves hangs on what is asked for
            rows = run_given(
                connection,
                statement,
                user_id=user_id,
                limit=limit,
                before_at=before_at,
                before_id=before_id,
                # In the words of the index of open jobs.
                is_open=None if status is None or status.terminal else True,
                **wanted,
            )
            return [plain(Job, row, status=JobStatus(row.status)) for row in rows]

    def usage(self, job_ids: Sequence[str]) -> dict[str, JobUsage]:
        """Return the money of each of these jobs."""
        found = self._run("jobs_figures", job_ids=list(job_ids))
        return {
            row.id: JobUsage(estimate_usd=row.estimate_usd, cost_usd=row.cost_usd, price_usd=row.price_usd)
            for row in found
        }

    def first_files(self, job_ids: Sequence[str]) -> dict[str, Asset]:
        """Return each job's first picture; of one without a picture its first file; nothing where it has none."""
        found = self._run("jobs_first_files", job_ids=list(job_ids))
        return {row.job_id: plain(Asset, row) for row in found}

    def first_of(self, flow_run_id: UUID) -> str | None:
        """Return the job that the run was made for: its oldest one; the batch, where its rows are jobs, too."""
        first: str | None = self._run("job_first_of_flow_run", flow_run_id=flow_run_id).scalar_one_or_none()
        return first

    def cost(self, job_id: str) -> Decimal:
        """Return what was paid for the job in USD, as far as is known."""
        return self.usage([job_id]).get(job_id, JobUsage()).cost_usd
