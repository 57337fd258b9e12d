"""A project of one's own, on an installed Darkroom: nothing of this repository is on the path."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from running import ROOT
from support import SLOW

CHECKS = Path(__file__).with_name("shop_checks.py")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment in which the wheel is installed, and what it needs is found."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    own = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    # Not a .pth of the other's folder is read there, and so not the one by which this repository is found.
    (own / "needed.pth").write_text("\n".join(place for place in sys.path if place.endswith("site-packages")))
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", ROOT, cwd=folder)
    return python


def run(*command: str | Path, cwd: Path, seconds: float = 120) -> str:
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("DARKROOM_", "PYTHON"))}
    kept = {name: os.environ[name] for name in ("DARKROOM_CACHE",) if name in os.environ}
    # A session of pytest closes its folder to other users: not the one in which the Postgres of our stacks lies.
    kept["PYTEST_DEBUG_TEMPROOT"] = str(cwd)
    done = subprocess.run(
        [str(each) for each in command],
        cwd=cwd,
        env=outside | kept,
        capture_output=True,
        text=True,
        timeout=SLOW * seconds,
    )
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_a_new_project_runs_in_every_way(python: Path, tmp_path: Path) -> None:
    """Ordered over HTTP, in Prefect's form and by an event, dry-run, and by its own test."""
    run(python.with_name("darkroom"), "new", "shop", cwd=tmp_path)
    shop = tmp_path / "shop"
    shutil.copy(CHECKS, shop / "tests" / "test_in_every_way.py")
    said = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=shop, seconds=150)
    assert "8 passed" in said, said
