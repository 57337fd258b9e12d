"""Files in the media store, as the ledger has them: those that jobs made, and those that users brought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from darkroom.ledger.database import run
from darkroom.ledger.part import Part
from darkroom.ledger.tables import Asset, Job, new_id


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file as it lies in the media store."""

    key: str
    sha256: str
    content_type: str
    bytes: int
    width: int | None = None
    height: int | None = None
    seconds: float | None = None


def hides_flagged(job: Job) -> bool:
    """Return whether the job's order says that nobody is shown its flagged files: hidden, or a failure."""
    return job.parameters.get("flagged") in ("hide", "fail")


class Assets(Part):
    def held(self, job_id: str, *, reason: str) -> None:
        """Note why a file of the job could not be stored just now. Its run tries again."""
        with self._engine.begin() as connection:
            run(connection, "job_held", job_id=job_id, reason=reason, now=self._now())

    def add(
        self,
        job: Job,
        *,
        ref: str | None,
        step: str,
        n: int,
        file: StoredFile,
        collected_at: datetime | None = None,
        flagged: bool | None = None,
    ) -> Asset:
        """Put a job's file on record. `collected_at`: when the provider's answer was in hand.

        `flagged`: what its model says of it; the job's order says whether that hides it.
        """
        with self._engine.begin() as connection:
            row = run(
                connection,
                "asset_insert",
                id=new_id("ast_"),
                job_id=job.id,
                user_id=job.user_id,
                ref=ref,
                step=step,
                n=n,
                collected_at=collected_at,
                flagged=flagged,
                hidden=bool(flagged) and hides_flagged(job),
                now=self._now(),
                **vars(file),
            ).one()
            return Asset(**row._mapping)

    def add_upload(self, user_id: str, *, asset_id: str, file: StoredFile) -> Asset:
        """Put a file that a user brought on record.

        `asset_id`: one of `new_id("ast_")`; the file's key in the store may bear it.
        """
        with self._engine.begin() as connection:
            row = run(connection, "asset_upload", id=asset_id, user_id=user_id, now=self._now(), **vars(file)).one()
            return Asset(**row._mapping)

    def reuse(self, job: Job, *, ref: str, reused_from: str, step: str) -> list[Asset]:
        """Put the files of a call that another job has paid on record as this job's, too."""
        names = {"job_id": job.id, "ref": ref, "reused_from": reused_from, "step": step, "hides": hides_flagged(job)}
        with self._engine.begin() as connection:
            rows = run(connection, "assets_reuse", id=new_id("ast_"), now=self._now(), **names)
            return sorted((Asset(**row._mapping) for row in rows), key=lambda asset: asset.n)

    def get(self, asset_id: str) -> Asset | None:
        with self._engine.begin() as connection:
            row = run(connection, "asset_get", asset_id=asset_id).one_or_none()
            return None if row is None else Asset(**row._mapping)

    def of_job(self, job_id: str) -> list[Asset]:
        with self._engine.begin() as connection:
            return [Asset(**row._mapping) for row in run(connection, "assets_of_job", job_id=job_id)]

    def of_jobs(self, job_ids: Sequence[str]) -> dict[str, list[Asset]]:
        """Return the files by job, in the order of its steps."""
        found: dict[str, list[Asset]] = {}
        with self._engine.begin() as connection:
            for row in run(connection, "assets_of_jobs", job_ids=list(job_ids)):
                found.setdefault(row.job_id, []).append(Asset(**row._mapping))
        return found
