"""How long files and functions may be: `python tests/ratchet.py`, a part of `make check`."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("darkroom", "flows", "blocks", "deployments")
LINES_OF_A_FILE = 400
LINES_OF_A_FUNCTION = 60


def main() -> None:
    found = list(problems())
    sys.stderr.writelines(f"{each}\n" for each in found)
    sys.exit(bool(found))


def problems() -> Iterator[str]:
    lengths = {
        str(file.relative_to(ROOT)): file.read_text() for name in FOLDERS for file in (ROOT / name).rglob("*.py")
    }
    for file, text in sorted(lengths.items()):
        if (lines := text.count("\n")) > LINES_OF_A_FILE:
            yield f"{file}: {lines} lines, {LINES_OF_A_FILE} at most. Which part of it is a thing of its own?"
        if "migrations/versions" not in file:
            yield from (f"{file}:{each}" for each in _long_functions(text))


def _long_functions(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > LINES_OF_A_FUNCTION:
                yield f"{node.lineno}: {node.name} has {lines} lines, {LINES_OF_A_FUNCTION} at most."


if __name__ == "__main__":
    main()
