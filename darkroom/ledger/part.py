"""What every part of the ledger works with: its connections, the time, and the limits that it keeps."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine

from darkroom.clock import Clock, utc_now
from darkroom.ledger.database import run_alone
from darkroom.ledger.rows import Result
from darkroom.timing import UNSCALED, Timing


class Part:
    def __init__(self, engine: Engine, *, clock: Clock = utc_now, timing: Timing = UNSCALED) -> None:
        self._engine = engine
        self._now = clock
        self._timing = timing

    def _run(self, name: str, /, **parameters: Any) -> Result:
        """Execute the statement of that name as its own transaction."""
        return run_alone(self._engine, name, **parameters)
