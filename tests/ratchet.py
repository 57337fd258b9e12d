"""How long files and functions may be: `python tests/ratchet.py`, a part of `make check`.

A file over the limit is on the list with the lines it has, and may only become shorter; so the list can only shrink.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("darkroom", "flows", "blocks", "deployments")
LINES_OF_A_FILE = 400
LINES_OF_A_FUNCTION = 60
LONGER = {
    "darkroom/engine/job.py": 475,
    "darkroom/orchestrator/__init__.py": 434,
}


def main() -> None:
    found = list(problems())
    sys.stderr.writelines(f"{each}\n" for each in found)
    sys.exit(bool(found))


def problems() -> Iterator[str]:
    lengths = {
        str(file.relative_to(ROOT)): file.read_text() for name in FOLDERS for file in (ROOT / name).rglob("*.py")
    }
    for file, text in sorted(lengths.items()):
        lines, most = text.count("\n"), LONGER.get(file, LINES_OF_A_FILE)
        if lines > most:
            yield f"{file}: {lines} lines, {most} at most. Which part of it is a thing of its own?"
        elif file in LONGER and lines < most:
            yield f"{file}: {lines} lines now. Lower its number in tests/ratchet.py, or take it off the list."
        if "migrations/versions" not in file:
            yield from (f"{file}:{each}" for each in _long_functions(text))
    yield from (f"{file} is gone. Take it off the list in tests/ratchet.py." for file in LONGER if file not in lengths)


def _long_functions(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > LINES_OF_A_FUNCTION:
                yield f"{node.lineno}: {node.name} has {lines} lines, {LINES_OF_A_FUNCTION} at most."


if __name__ == "__main__":
    main()
