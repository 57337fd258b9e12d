"""What commands say when what they need is not there."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import psycopg
import pytest
import typer
from sqlalchemy.exc import OperationalError, ProgrammingError

from darkroom.deployments.cli import app, main
from darkroom.deployments.cli.failures import line_of
from darkroom.deployments.home import Home
from darkroom.deployments.stack.environment import client_settings
from darkroom.deployments.stack.options import StackOptions
from darkroom.deployments.stack.postgres import Cluster

# They make something, or start it.
NEED_NO_STACK = {"new", "up", "env", "demo", "gateway"}
# What a command wants to be told besides its required arguments and options.
WORDS = {
    "replay": ["job_1"],
    "wait extend": ["--until", "2040-01-01T00:00:00Z"],
    "pending drop": ["run_1"],
    "start drop": ["run_1"],
    "user set": ["--daily-budget", "1"],
}


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield " ".join(path), command
        return
    for name, each in command.commands.items():
        yield from leaves(each, (*path, name))


COMMANDS = {name: command for name, command in leaves(typer.main.get_command(app)) if name not in NEED_NO_STACK}


def words_of(name: str, file: Path) -> list[str]:
    """The command with a word for all that it requires."""
    words = name.split()
    for each in COMMANDS[name].params:
        if each.required:
            option = [each.opts[0]] if each.param_type_name == "option" else []
            words += [*option, str(file) if each.name == "files" else "1"]
    return [*words, *WORDS.get(name, [])]


def said(name: str, file: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which the command ends; its exit code is then 1."""
    with pytest.raises(SystemExit) as ended:
        main(words_of(name, file))
    told = ended.value.code
    assert isinstance(told, str), f"{told}: {capsys.readouterr()}"  # a number is another way to end, 2 of wrong usage
    assert "\n" not in told and told.startswith("darkroom: ")
    return told


@pytest.fixture
def off(tmp_path: Path) -> Iterator[Home]:
    """A home whose stack has been stopped, in a shell that knows nothing else."""
    home = Home(tmp_path / "home")
    home.prepare()
    cluster = Cluster(data=home.postgres, sockets=home.postgres, identity={})
    options = StackOptions(home=home.path, port=1, prefect_port=2)
    home.record_environment(client_settings(options, home=home, cluster=cluster, base={}))
    home.operator_key.write_text("dk_1\n")
    with patch.dict(os.environ, {"DARKROOM_HOME": str(home.path), "PATH": os.environ["PATH"]}, clear=True):
        yield home


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_in_one_line_that_no_stack_runs(
    name: str, off: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the remedy, and exit code 1: whether it asks the gateway, Prefect or the ledger."""
    (file := tmp_path / "a.png").touch()
    assert "`darkroom up`" in said(name, file, capsys)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_in_one_line_that_there_has_never_been_one(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a folder without any."""
    (file := tmp_path / "a.png").touch()
    with patch.dict(os.environ, {"DARKROOM_HOME": str(tmp_path / "none"), "PATH": os.environ["PATH"]}, clear=True):
        told = said(name, file, capsys)
    assert any(remedy in told for remedy in ("DARKROOM_LEDGER_URL", "DARKROOM_API_KEY", "PREFECT_API_URL"))


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OperationalError("SELECT 1", {}, psycopg.OperationalError("no\nreason")), "the ledger cannot be reached"),
        (psycopg.OperationalError("connection failed"), "the ledger cannot be reached"),
        (ProgrammingError("SELECT 1", {}, psycopg.errors.UndefinedTable("no job")), "`darkroom provision`"),
        (httpx.ConnectError("no", request=httpx.Request("GET", "http://there.example/x")), "there.example"),
        (httpx.ReadTimeout("no"), "does not answer"),
        (ValueError("first\nsecond"), "first second"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/home/ann/.darkroom"),
            "/home/ann/.darkroom: Permission denied",
        ),
    ],
)
def test_a_failure_of_what_is_around_is_a_line(error: Exception, says: str, off: Home) -> None:
    """And nothing else of it is shown."""
    line = line_of(error)
    assert line and says in line and "\n" not in line and "SELECT" not in line


def test_a_fault_of_ours_keeps_its_traceback(off: Home) -> None:
    """Whoever reports it can."""
    assert line_of(KeyError("x")) is None
    assert line_of(ProgrammingError("SELEC 1", {}, psycopg.errors.SyntaxError("at SELEC"))) is None


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """With those of what it runs on, as a report of a fault wants them."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    told = capsys.readouterr().out
    assert not ended.value.code
    assert told.startswith("darkroom ") and "Prefect 3." in told and "Python 3." in told
