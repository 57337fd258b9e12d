"""The user that Postgres runs as for root is made once, by whoever comes first."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from darkroom.deployments.stack.postgres import system_user
from darkroom.errors import NeedsHuman

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("useradd"), reason="users are made by root alone, and by useradd"
)


@pytest.fixture
def name() -> Iterator[str]:
    name = f"darkroom-{os.getpid()}"
    yield name
    subprocess.run(["userdel", name], capture_output=True)


def test_stacks_that_start_at_once_on_a_new_machine_share_the_user(name: str) -> None:
    with ThreadPoolExecutor(4) as stacks:
        users = {user.pw_uid for user in stacks.map(system_user, [name] * 4)}
    assert len(users) == 1


def test_a_machine_that_makes_no_users_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NeedsHuman, match=f"there is no user {name} to run Postgres as"):
        system_user(name)
