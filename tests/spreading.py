"""Which of several processes runs a file of tests: whichever is next, but one process all that need a Prefect server.

To start and provision one takes 13 CPU seconds, and it lies in a session from its first test to the end: each process
that came by such a file had one of its own.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling

ROOT = Path(__file__).parents[1]
WITH_PREFECT = "tests/integration, with a Prefect server"


class Spreading(LoadFileScheduling):
    """The scheduling of `--dist loadfile`."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return WITH_PREFECT if needs_prefect(ROOT / file) else file


@cache
def needs_prefect(file: Path) -> bool:
    """Whether its tests take the session's server: who spreads them has collected nothing, so their file must say."""
    return file.suffix == ".py" and "\nfrom prefect_server import PrefectServer\n" in file.read_text()


def check_that_it_says_so(item: pytest.Item) -> None:
    """Refuse a test that takes the session's server, not a fixture of its own of that name, without its file saying so.

    pytest has no public word for which fixture it is.
    """
    known = item._fixtureinfo.name2fixturedefs if isinstance(item, pytest.Function) else {}
    taken = known.get("prefect")
    if taken and taken[-1].scope == "session" and not needs_prefect(item.path):
        raise pytest.UsageError(
            f"{item.nodeid} takes the Prefect server: its file needs `from prefect_server import PrefectServer`"
        )
