"""A copy of this project, whose code a test may change while processes run from it."""

from __future__ import annotations

import compileall
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]
UNDER_ONE_NAME = ("blocks", "deployments", "flows")  # import names `darkroom.blocks`, …


def copy_packages(folder: Path) -> Path:
    """Copy the packages into `folder`, with what is compiled of them already: files keep their times.

    They lie as they do when installed, inside the one package; links stand where they are in the repository.
    """
    shutil.copytree(ROOT / "darkroom", folder / "darkroom")
    (folder / "prefect.yaml").symlink_to(folder / "darkroom" / "prefect.yaml")
    for name in UNDER_ONE_NAME:
        shutil.copytree(ROOT / name, folder / "darkroom" / name)
        (folder / name).symlink_to(folder / "darkroom" / name)
    return folder


def compile_all(folder: Path) -> None:
    """Compile what is not yet: processes of `environment` never write what they compile, each would do it again."""
    compileall.compile_dir(folder / "darkroom", quiet=2)


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of processes that are to run the copy."""
    # Compiled code is told from its source by a time in whole seconds: what a test has just changed is never written.
    return {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "DARKROOM_PROJECT": str(folder / "darkroom")}
