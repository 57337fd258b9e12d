"""What children of a test's own forkserver do: they tell which generation of a module they have."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection


def tell(line: Connection) -> None:
    import generation  # type: ignore[import-not-found]  # the test writes it

    line.send(generation.NUMBER)


def tell_when_asked(line: Connection) -> None:
    line.recv()
    tell(line)


def tell_parent(line: Connection) -> None:
    line.send(os.getppid())
