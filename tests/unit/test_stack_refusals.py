"""What a stack does not start over."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from darkroom.deployments.home import Home
from darkroom.deployments.stack.options import StackOptions
from darkroom.deployments.stack.processes import MARK
from darkroom.deployments.stack.supervisor import Stack
from darkroom.errors import NeedsHuman


@contextmanager
def left_by(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that some start of a stack in that folder has started."""
    with subprocess.Popen(["sleep", "600"], env={**os.environ, MARK: f"{folder}#1.{uuid4().hex}"}) as process:
        try:
            yield process
        finally:
            process.kill()


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
    with home.lock(), left_by(home.path) as part:
        with pytest.raises(NeedsHuman, match=r"a stack runs in .* already: stop it, or choose another --home"):
            Stack(StackOptions(home=home.path), base={}).run()
        assert part.poll() is None, "the one that runs goes on"
    assert not home.secrets_file.exists()


def test_a_start_ends_what_an_earlier_one_in_its_folder_has_left(tmp_path: Path) -> None:
    """Whoever killed that; a stack in a folder whose name begins alike is left alone."""
    home = Home(tmp_path / "home")
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        left_by(home.path) as old,
        left_by(tmp_path / "home-of-another") as another,
    ):
        with pytest.raises(NeedsHuman, match="is taken"):
            Stack(StackOptions(home=home.path, port=taken.getsockname()[1]), base={}).run()
        old.wait(timeout=60)  # it would sleep for longer
        assert another.poll() is None
