"""LoRAs: what trainings came to, as versions of a trigger word, each user's own. And where their weights are at hand.

A trigger word that is trained anew is the next version; whoever names the word alone gets the newest that is ready.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row

from darkroom.ledger.database import plain, run
from darkroom.ledger.lora_tables import Lora
from darkroom.ledger.part import Part
from darkroom.ledger.statuses import LoraStatus
from darkroom.ledger.tables import new_id


class Loras(Part):
    def register(self, job_id: str, *, user_id: str, trigger_word: str, weights: str, config: str) -> Lora:
        """Register the LoRA of a training, of which there is one: asked again, it is the same.

        `weights`, `config`: assets.
        """
        with self._engine.begin() as connection:
            known = run(connection, "lora_of_job", job_id=job_id).one_or_none()
            if known is not None:
                return _lora(known)
            run(connection, "lora_user_lock", user_id=user_id)  # its versions are counted: one at a time
            run(
                connection,
                "lora_register",
                id=new_id("lora_"),
                user_id=user_id,
                job_id=job_id,
                trigger_word=trigger_word,
                weights_asset_id=weights,
                config_asset_id=config,
                now=self._now(),
            )
            return _lora(run(connection, "lora_of_job", job_id=job_id).one())

    def ready(self, lora_id: str, *, sample: str) -> Lora:
        """Mark the LoRA as ready. `sample`: the asset with its test pictures."""
        return _lora(self._run("lora_ready", lora_id=lora_id, sample_asset_id=sample).one())

    def get(self, lora_id: str) -> Lora | None:
        row = self._run("lora_get", lora_id=lora_id).one_or_none()
        return None if row is None else _lora(row)

    def find(self, user_id: str, name: str) -> Lora | None:
        """Find a LoRA by id, whatever its state, as its weights are there.

        By trigger word, find the newest that is ready.
        """
        row = self._run("lora_find", user_id=user_id, called=name).one_or_none()
        return None if row is None else _lora(row)

    def page(
        self,
        user_id: str,
        *,
        limit: int,
        before: tuple[datetime, str] | None = None,
        trigger_word: str | None = None,
    ) -> list[Lora]:
        """Return a page of the user's LoRAs, newest first.

        `before` is the time and id of the last one of the page before. `trigger_word`: only its versions.
        """
        before_at, before_id = before or (None, None)
        given = {"user_id": user_id, "limit": limit, "trigger_word": trigger_word}
        rows = self._run("loras_page", **given, before_at=before_at, before_id=before_id)
        return [_lora(row) for row in rows]

    # -- where a provider has a file already -------------------------------------------------------------------------

    def copy_at(self, account_id: str, asset_id: str, *, until: datetime) -> str | None:
        """Return the address of the provider's copy, if it lasts until then; else None."""
        url: str | None = self._run(
            "copy_find", asset_id=asset_id, account_id=account_id, until=until
        ).scalar_one_or_none()
        return url

    def keep_copy(self, account_id: str, asset_id: str, *, url: str, expires_at: datetime) -> None:
        self._run("copy_keep", asset_id=asset_id, account_id=account_id, url=url, expires_at=expires_at)


def _lora(row: Row[Any]) -> Lora:
    return plain(Lora, row, status=LoraStatus(row.status))
