"""The commands as a whole: what all of them have, and what a shell is told of them."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from darkroom.deployments.cli import app
from darkroom.deployments.cli.job_list import LONGEST_ORDER, cells, order
from darkroom.deployments.cli.output import print_rows

# They run something, or change it and say nothing.
PRINT_NO_DATA = {
    *("new", "up", "env", "demo", "gateway", "provision", "user revoke", "plan set", "account set"),
    *("model allow", "model deny", "model price", "user plan", "user set", "key revoke"),
}
ROWS = [(("job_1", "two\nlines"), {"id": "job_1", "usd": Decimal("0.5"), "at": datetime(2030, 1, 1, tzinfo=UTC)})]


def commands(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from () if command.hidden else commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


def test_every_command_that_prints_data_prints_it_as_json_too() -> None:
    """By the same option everywhere, so that a script need not look it up."""
    found = dict(commands(typer.main.get_command(app)))
    without = {path for path, command in found.items() if not any("--json" in each.opts for each in command.params)}
    assert without == PRINT_NO_DATA


@pytest.mark.parametrize(("typed", "offered"), [("darkroom jo", "jobs"), ("darkroom plan l", "list")])
def test_a_shell_completes_commands(typed: str, offered: str) -> None:
    """`darkroom --install-completion` sets it up; this is what the shell asks then."""
    asked = {"_DARKROOM_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    assert CliRunner().invoke(app, [], env=asked, prog_name="darkroom").stdout.split() == [offered]


def test_rows_in_a_pipe_are_lines_of_cells_or_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    """A line break in somebody's words does not become one in the list."""
    print_rows(("job", "words"), ROWS, as_json=False, empty="none")
    assert capsys.readouterr().out == "job_1\ttwo lines\n"
    print_rows(("job", "words"), ROWS, as_json=True, empty="none")
    assert json.loads(capsys.readouterr().out) == {"id": "job_1", "usd": 0.5, "at": "2030-01-01T00:00:00+00:00"}


def test_rows_in_a_terminal_are_a_table_whose_cells_are_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However narrow it is: an id is there to be copied."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(shutil, "get_terminal_size", lambda *_, **__: (20, 24))
    long = "x" * 200
    print_rows(("job", "words"), [(("job_1", long), {})], as_json=False, empty="none")
    head, line = capsys.readouterr().out.splitlines()
    assert (head.split(), line.split()) == (["job", "words"], ["job_1", long])


@pytest.mark.parametrize("as_json", [False, True])
def test_that_there_is_nothing_is_no_data(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    """It is said on stderr: a pipe gets an empty list."""
    print_rows(("job",), [], as_json=as_json, empty="There are no jobs.")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "There are no jobs.\n")


@pytest.mark.parametrize(
    ("ordered", "shown"),
    [
        ({"prompt": "a fox\nin the snow", "seed": 7}, "a fox in the snow"),
        ({"topic": "tea"}, '{"topic": "tea"}'),
        ({}, ""),
        ({"prompt": "x" * 500}, "x" * (LONGEST_ORDER - 1) + "…"),
    ],
)
def test_an_order_is_told_on_one_short_line(ordered: dict[str, object], shown: str) -> None:
    """By its prompt, where it has one."""
    assert order(ordered) == shown
    job = {"id": "j", "kind": "k", "status": "failed", "created_at": "2030-01-01T12:00:00+00:00", "order": ordered}
    assert cells(job | {"estimate_usd": None, "cost_usd": 0.025})[4:] == ("", "$0.025", shown)
