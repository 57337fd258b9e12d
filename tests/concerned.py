"""Which integration tests a change concerns: `python tests/concerned.py` prints their files, a line each.

A test file is concerned if it, or a module of tests it imports, was changed or imports a module that was; or if it is
named after the folder, or the module at the top, in which something was: a change in `darkroom/ledger/` concerns
`test_ledger_*.py`. Changed is what differs from the last commit, or from `main` where another branch is checked out,
and what git does not know yet.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
INTEGRATION = ROOT / "tests" / "integration"
HELPERS = (INTEGRATION, ROOT / "tests")
UNDER_ONE_NAME = ("blocks", "deployments", "flows")  # import names `darkroom.blocks`, …


def main() -> None:
    changed = changed_files()
    found = [file for file in sorted(INTEGRATION.glob("test_*.py")) if concerned(file, changed)]
    sys.stdout.writelines(f"{file.relative_to(ROOT)}\n" for file in found)


def changed_files() -> frozenset[Path]:
    branch = _git("rev-parse", "--abbrev-ref", "HEAD")
    base = ["HEAD"] if branch == ["main"] else _git("merge-base", "HEAD", "main")
    tracked, untracked = _git("diff", "--name-only", *base), _git("ls-files", "--others", "--exclude-standard")
    return frozenset(ROOT / name for name in (*tracked, *untracked))


def concerned(test: Path, changed: frozenset[Path]) -> bool:
    """Whether the test's file, what helps it, or what either imports was changed; or what it is named after."""
    files = {test, *helpers(test)}
    reached = files.union(*(imported(file) for file in files))
    return not changed.isdisjoint(reached) or any(f"_{subject}" in f"_{test.stem}" for subject in _subjects(changed))


def _subjects(changed: frozenset[Path]) -> set[str]:
    parts = [path.relative_to(ROOT).with_suffix("").parts for path in changed if path.suffix in (".py", ".sql")]
    ours = [each for each in parts if len(each) > 1 and each[0] in ("darkroom", *UNDER_ONE_NAME)]
    # `darkroom/media/` and below it: "film" too
    return {name for each in ours for name in (each[1:-1] or each[1:])}


@cache
def helpers(file: Path) -> frozenset[Path]:
    """The modules of tests that the file imports, and those that these import."""
    direct = {file for file in imported(file) if file.is_relative_to(ROOT / "tests")}
    return frozenset(direct.union(*(helpers(each) for each in direct)))


@cache
def imported(file: Path) -> frozenset[Path]:
    """The files of this project that it imports by name; of a package its `__init__.py`."""
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return frozenset(path for name in names for path in _files(name) if path != file)


def _files(name: str) -> list[Path]:
    """Where a module may stand: below the top, or beside the tests."""
    parts = name.split(".")
    if parts[0] == "darkroom" and parts[1:2] and parts[1] in UNDER_ONE_NAME:
        parts = parts[1:]
    places = [folder / Path(*parts) for folder in (ROOT, *HELPERS)]
    found = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
    return [file for file in found if file.is_file()]


def _git(*arguments: str) -> list[str]:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


if __name__ == "__main__":
    main()
