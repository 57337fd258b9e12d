"""A copy of this project with flows of a test's own, which a stack runs: `PYTHONPATH` set to it comes first."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]


def trial_project(folder: Path, *, flows: str, deployments: str) -> Path:
    """`flows`: a file beside this one. `deployments`: as they stand in prefect.yaml."""
    for package in ("blocks", "deployments", "flows"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(Path(__file__).parent / flows, folder / "flows")
    (folder / "prefect.yaml").write_text((ROOT / "prefect.yaml").read_text().rstrip() + "\n" + deployments)
    return folder


def environment(project: Path) -> dict[str, str]:
    """Of a stack that is to run it."""
    return {"PYTHONPATH": str(project), "PYTHONDONTWRITEBYTECODE": "1"}
