"""Which worker of xdist runs which file: files that share a costly fixture are run by few workers, one after another.

Each worker has session fixtures of its own. A whole stack takes twenty seconds of CPU until it is ready and Prefect's
server ten, so half of the workers have the one and a quarter of them the other, and the rest run what needs neither:
tests on a stack mostly wait, and what computes goes on beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from xdist.scheduler import LoadFileScheduling

ROOT = Path(__file__).parents[1]


class Shared(StrEnum):
    STACK = "stack"
    PREFECT = "prefect"


# How tests name the fixture's type; and of how many workers one has it.
NAMED = {Shared.STACK: ("tests/acceptance/", ": Stack"), Shared.PREFECT: ("tests/integration/", ": PrefectServer")}
ONE_IN = {Shared.STACK: 2, Shared.PREFECT: 4}


@cache
def shared_by(file: str) -> Shared | None:
    """Return what this file's tests share with those of others. `file`: as in the ids of its tests."""
    for shared, (folder, named) in NAMED.items():
        if file.startswith(folder) and named in (ROOT / file).read_text():
            return shared
    return None


def next_file(waiting: Iterable[str], *, ran: str, ran_by: Mapping[str, Iterable[str]]) -> str:
    """Return the file that the worker `ran` is to run next. `ran_by`: worker → the files that it was given so far."""
    has = {worker: {shared_by(file) for file in files} - {None} for worker, files in ran_by.items()}
    files = list(waiting)

    def may_begin(shared: Shared | None) -> bool:
        if shared is None:
            return True
        having = sum(shared in each for each in has.values())
        return not has[ran] and having < max(1, len(has) // ONE_IN[shared])

    at_hand = (file for file in files if shared_by(file) in has[ran])
    begun = (file for file in files if may_begin(shared_by(file)))
    # At the very end one more is better than three workers without work.
    return next(at_hand, None) or next(begun, files[0])


class BySharedFixture(LoadFileScheduling):
    def _assign_work_unit(self, node: Any) -> None:
        ran_by = {each.gateway.id: list(files) for each, files in self.assigned_work.items()}
        self.workqueue.move_to_end(next_file(self.workqueue, ran=node.gateway.id, ran_by=ran_by), last=False)
        super()._assign_work_unit(node)
