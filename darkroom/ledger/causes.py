"""What jobs failed of, over all users: for who looks after all of it, and puts back what one cause has felled."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from darkroom.ledger.database import run
from darkroom.ledger.part import Part


@dataclass(frozen=True, kw_only=True)
class Cause:
    """What failed jobs have in common. `message`: of the last one."""

    code: str
    error_class: str
    kind: str
    jobs: int
    users: int
    first_at: datetime
    last_at: datetime
    message: str | None


class Causes(Part):
    def most_frequent(self, *, limit: int = 100) -> list[Cause]:
        """Group everybody's failed jobs that are not discarded by cause, the most frequent first."""
        with self._engine.begin() as connection:
            return [Cause(**row._mapping) for row in run(connection, "dead_causes", limit=limit)]
