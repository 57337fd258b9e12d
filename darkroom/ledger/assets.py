"""Files in the media store, as the ledger has them: those that jobs made, and those that users brought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from darkroom.errors import WrongState
from darkroom.ledger.database import plain, run
from darkroom.ledger.labels import EVERYTHING, Search
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


@dataclass(frozen=True, kw_only=True)
class ListedAsset:
    """A file with what it was ordered by: the model that made it, the prompt, the tags of its job."""

    asset: Asset
    model: str | None
    prompt: str | None
    tags: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class AssetFilter:
    """Which files are listed. `kind`: image, video, audio or other. `job_id`: of a batch with its rows."""

    kind: str | None = None
    model: str | None = None
    job_id: str | None = None
    asset_id: str | None = None
    since: datetime | None = None
    search: Search = EVERYTHING


@dataclass(frozen=True, kw_only=True)
class DeletedAsset:
    """What is left to remove: the file, and its small pictures, where no other file on record needs them."""

    asset: Asset
    remove_file: bool
    remove_thumbnails: bool


ALL_FILES = AssetFilter()


def hides_flagged(job: Job) -> bool:
    """Return whether the job's order says that nobody is shown its flagged files: hidden, or a failure."""
    return job.parameters.get("flagged") in ("hide", "fail")


class Assets(Part):
    def held(self, job_id: str, *, reason: str) -> None:
        """Note why a file of the job could not be stored just now. Its run tries again."""
        self._run("job_held", job_id=job_id, reason=reason, now=self._now())

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
        row = self._run(
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
        return plain(Asset, row)

    def add_upload(self, user_id: str, *, asset_id: str, file: StoredFile) -> Asset:
        """Put a file that a user brought on record.

        `asset_id`: one of `new_id("ast_")`; the file's key in the store may bear it.
        """
        row = self._run("asset_upload", id=asset_id, user_id=user_id, now=self._now(), **vars(file)).one()
        return Asset(**row._mapping)

    def reuse(self, job: Job, *, ref: str, reused_from: str, step: str) -> list[Asset]:
        """Put the files of a call that another job has paid on record as this job's, too."""
        names = {"job_id": job.id, "ref": ref, "reused_from": reused_from, "step": step, "hides": hides_flagged(job)}
        rows = self._run("assets_reuse", id=new_id("ast_"), now=self._now(), **names)
        return sorted((Asset(**row._mapping) for row in rows), key=lambda asset: asset.n)  # RETURNING has no order

    def get(self, asset_id: str) -> Asset | None:
        row = self._run("asset_get", asset_id=asset_id).one_or_none()
        return None if row is None else Asset(**row._mapping)

    def of_job(self, job_id: str) -> list[Asset]:
        return [Asset(**row._mapping) for row in self._run("assets_of_job", job_id=job_id)]

    def of_jobs(self, job_ids: Sequence[str]) -> dict[str, list[Asset]]:
        """Return the files by job, in the order of its steps."""
        found: dict[str, list[Asset]] = {}
        with self._engine.begin() as connection:
            for row in run(connection, "assets_of_jobs", job_ids=list(job_ids)):
                found.setdefault(row.job_id, []).append(Asset(**row._mapping))
        return found

    def page(
        self,
        user_id: str,
        *,
        limit: int,
        before: tuple[datetime, str] | None = None,
        only: AssetFilter = ALL_FILES,
    ) -> list[ListedAsset]:
        """Return a page of the user's files, newest first. `before`: the time and id of the last of the page before."""
        before_at, before_id = before or (None, None)
        asked = {name: value for name, value in vars(only).items() if name != "search"} | only.search.parameters()
        with self._engine.begin() as connection:
            run(connection, "plan_anew")  # which index serves hangs on what is asked for
            rows = run(
                connection,
                "assets_page",
                user_id=user_id,
                limit=limit,
                before_at=before_at,
                before_id=before_id,
                **asked,
            )
            return [_listed(row) for row in rows]

    def delete(self, asset_id: str, *, user_id: str) -> DeletedAsset | None:
        """Mark the file as deleted; nothing on record shows it then. Return None where the user has no such file.

        Raise WrongState where a job that has not ended, or a LoRA, needs it. One that is deleted already stays so.
        """
        with self._engine.begin() as connection:
            row = run(connection, "asset_lock", asset_id=asset_id).one_or_none()
            if row is None or row.user_id != user_id:
                return None
            asset = plain(Asset, row)
            if asset.deleted_at is None:
                _require_unneeded(connection, asset)
                run(connection, "asset_delete", asset_id=asset_id, now=self._now())
            # Files of an answer that served again lie under one key, and small pictures under the hash of their file.
            shared = run(connection, "asset_shared", key=asset.key, user_id=user_id, sha256=asset.sha256).one()
            return DeletedAsset(asset=asset, remove_file=not shared.key, remove_thumbnails=not shared.bytes)


def _listed(row: Row[Any]) -> ListedAsset:
    facts = dict(row._mapping)
    about = {name: facts.pop(name) for name in ("model", "prompt", "tags")}
    return ListedAsset(asset=Asset.model_construct(**facts), **about)


def _require_unneeded(connection: Connection, asset: Asset) -> None:
    names = {"user_id": asset.user_id, "job_id": asset.job_id, "ref": asset.ref, "asset_id": asset.id}
    if job_id := run(connection, "asset_needed", **names).scalar_one_or_none():
        raise WrongState(f"The job {job_id} needs this file. Wait for its end, or cancel it.", code="asset_in_use")
    if lora_id := run(connection, "asset_lora", asset_id=asset.id).scalar_one_or_none():
        raise WrongState(f"The LoRA {lora_id} is made of this file. Keep it.", code="asset_in_use")
