"""What a forkserver's first child tells of what was preloaded. By itself: a broken preload has imported nothing."""

from __future__ import annotations

import sys
from multiprocessing.connection import Connection


def tell_problem(preload: str, line: Connection) -> None:
    """Send the module's `PROBLEM`, or that it was not imported."""
    line.send(sys.modules[preload].PROBLEM if preload in sys.modules else f"{preload} was not imported")
