"""Which worker of xdist runs which of this suite's files, by their own text."""

from __future__ import annotations

from itertools import cycle

import pytest
from distributing import ROOT, Shared, next_file, shared_by

STACK, OTHER_STACK = "tests/acceptance/test_lora.py", "tests/acceptance/test_queues.py"
PREFECT, NEITHER = "tests/integration/test_warm_worker.py", "tests/integration/test_gateway_jobs.py"


@pytest.mark.parametrize(
    ("file", "shared"),
    [
        (STACK, Shared.STACK),
        ("tests/acceptance/test_strangers.py", None),
        ("tests/chaos/test_promises.py", None),
        (PREFECT, Shared.PREFECT),
        (NEITHER, None),
    ],
)
def test_what_a_file_shares_with_others_is_read_from_it(file: str, shared: Shared | None) -> None:
    assert shared_by(file) is shared


@pytest.mark.parametrize(("workers", "with_a_stack", "with_prefect"), [(1, 1, 1), (4, 2, 1), (8, 4, 2)])
def test_few_workers_have_a_stack_or_a_prefect_server(workers: int, with_a_stack: int, with_prefect: int) -> None:
    """A stack every other worker at most, Prefect's server every fourth."""
    folders = ("chaos", "acceptance", "integration", "unit")
    files = [f"tests/{each}/{file.name}" for each in folders for file in (ROOT / "tests" / each).glob("test_*.py")]
    waiting = dict.fromkeys(files)
    ran_by: dict[str, list[str]] = {f"gw{number}": [] for number in range(workers)}
    for worker in cycle(ran_by):
        if not waiting:
            break
        file = next_file(waiting, ran=worker, ran_by=ran_by)
        del waiting[file]
        ran_by[worker].append(file)
    have = [set(map(shared_by, ran)) for ran in ran_by.values()]
    assert 0 < sum(Shared.STACK in each for each in have) <= with_a_stack
    assert 0 < sum(Shared.PREFECT in each for each in have) <= with_prefect


def test_what_is_at_hand_comes_first_and_a_worker_without_work_helps_at_the_end() -> None:
    ran_by = {"one": [STACK], "two": []}
    assert next_file([NEITHER, OTHER_STACK], ran="one", ran_by=ran_by) == OTHER_STACK
    assert next_file([OTHER_STACK, NEITHER], ran="two", ran_by=ran_by) == NEITHER
    assert next_file([OTHER_STACK], ran="two", ran_by=ran_by) == OTHER_STACK
