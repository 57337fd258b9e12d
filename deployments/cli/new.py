"""`darkroom new`: one's own project, that runs."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

import typer

from darkroom.deployments.cli.common import say
from darkroom.errors import BadInput

TEMPLATE = files("darkroom.deployments.cli") / "new_project"
DOTTED = {"gitignore": ".gitignore"}  # packaging leaves out what begins with a dot


def new(folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to make it; new, or empty.")]) -> None:
    """Make a project: a pipeline, an event that starts it, a test. `cd DIR && darkroom up` runs it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder} is there already and not empty: name another folder", field="DIR")
    _copy(TEMPLATE, folder)
    say(f"made {folder}: cd {folder} && darkroom up")


def _copy(source: Traversable, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for each in source.iterdir():
        place = target / DOTTED.get(each.name, each.name)
        if each.name == "__pycache__":  # pip compiles what it installs, the template's files too
            continue
        if each.is_dir():
            _copy(each, place)
        else:
            place.write_bytes(each.read_bytes())
