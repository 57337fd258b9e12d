"""What a stack does not start over."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from darkroom.deployments.home import Home
from darkroom.deployments.stack.options import StackOptions
from darkroom.deployments.stack.supervisor import Stack
from darkroom.errors import NeedsHuman


@pytest.mark.parametrize("option", ["port", "prefect_port", "simulator_port"])
def test_a_port_that_is_taken_is_named_with_its_option(tmp_path: Path, option: str) -> None:
    """At once: no secrets are made, and so nothing is started."""
    home = Home(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        ports = {"port": 0, "prefect_port": 0, "simulator_port": 0} | {option: number}
        says = f"^port {number} is taken: choose another with --{option.replace('_', '-')}$"
        with pytest.raises(NeedsHuman, match=says):
            Stack(StackOptions(home=home.path, **ports), base={}).run()
    assert not home.secrets_file.exists()


def test_two_stacks_in_one_folder_are_refused(tmp_path: Path) -> None:
    """They would fight over one database."""
    home = Home(tmp_path)
    home.prepare()
    with home.lock(), pytest.raises(NeedsHuman, match=r"a stack runs in .* already: stop it, or choose another --home"):
        Stack(StackOptions(home=home.path), base={}).run()
    assert not home.secrets_file.exists()
