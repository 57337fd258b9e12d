"""How the house stands: `python tests/measures.py [FOLDER]`, of this checkout or of another commit's tree.

Rooms and the imports between them, the longest files and functions, docstrings that are fragments, and comments in a
hundred lines. Nothing depends on the figures: they are for the eye, and to compare two commits by.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median

FOLDERS = ("darkroom", "blocks", "flows", "deployments")
# A docstring that begins with one of these does not say what its function does: "With what the plan allows; None if …".
NO_VERBS = frozenset(
    """
    a about after again all also always among an and another any anything as at because before beside between
    both but by each either else every everything for from how if in instead into it its just less more most
    neither never no nobody none nor not nothing of on once one only or other others our over past per several
    since so some such than that the their them then there these they this those through till to together too
    twice two under unless until up upon we what whatever when where whether which while who whoever whom whose
    why with within without you your
    """.split()  # noqa: SIM905 - a list of quoted words would be four times as long
)

Files = Mapping[str, str]  # the text by the path from the root


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    files = {
        str(file.relative_to(root)): file.read_text()
        for name in FOLDERS
        for file in sorted((root / name).rglob("*.py"))
        if "migrations/versions" not in str(file)
    }
    for name in FOLDERS:
        say_rooms(name, files)
    say_lengths(files)
    say_docstrings(files)
    say_comments("all", files)
    for part in ("gateway", "engine", "ledger"):
        say_comments(part, {path: text for path, text in files.items() if f"/{part}/" in path})


def say_rooms(name: str, files: Files) -> None:
    """Say how many rooms a folder has, its packages and the modules beside them, and which know which other."""
    inside = {path: text for path, text in files.items() if path.startswith(f"{name}/")}
    rooms = {room_of(path) for path in inside} - {"__init__"}
    packages = {room_of(path) for path in inside if path.count("/") > 1}
    known = {
        (room_of(path), imported)
        for path, text in inside.items()
        for imported in imports_of(text, name)
        if imported in rooms and imported != room_of(path) and room_of(path) != "__init__"
    }
    between = len({pair for pair in known if set(pair) <= packages})
    print(f"{name}: {len(rooms)} rooms, {len(known)} imports between them; {len(packages)} packages, {between} imports")


def room_of(path: str) -> str:
    return path.split("/")[1].removesuffix(".py")


def imports_of(text: str, name: str) -> Iterator[str]:
    """Yield the rooms of that folder that a module imports. The library is `darkroom` itself."""
    prefix = re.compile(r"(?:darkroom\.)?" + (f"{name}\\." if name != "darkroom" else "") + r"(\w+)")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            asked = [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
        elif isinstance(node, ast.Import):
            asked = [each.name for each in node.names]
        else:
            continue
        for each in asked:
            if name == "darkroom" and not each.startswith("darkroom."):
                continue
            if found := prefix.match(each):
                yield found[1]


def say_lengths(files: Files) -> None:
    longest = sorted(((text.count("\n"), path) for path, text in files.items()), reverse=True)
    functions = sorted(
        (
            ((node.end_lineno or 0) - node.lineno + 1, f"{path}:{node.name}")
            for path, text in files.items()
            for node in functions_of(text)
        ),
        reverse=True,
    )
    lengths = [lines for lines, _ in functions]
    print(f"{len(files)} files, {sum(lines for lines, _ in longest):,} lines; the longest:", *_shown(longest))
    print(
        f"{len(functions):,} functions: median {median(lengths):g} lines, nine in ten up to "
        f"{lengths[len(lengths) // 10]}; the longest:",
        *_shown(functions),
    )


def _shown(found: list[tuple[int, str]]) -> list[str]:
    return [f"{name} {lines}" for lines, name in found[:3]]


def functions_of(text: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def say_docstrings(files: Files) -> None:
    said = [each for text in files.values() for node in functions_of(text) if (each := ast.get_docstring(node))]
    fragments = [each for each in said if is_fragment(each)]
    print(f"{len(said):,} docstrings of functions, {100 * len(fragments) / len(said):.1f} % of them fragments")


def is_fragment(docstring: str) -> bool:
    """Return whether the first line is no whole sentence that begins with a verb."""
    first = docstring.partition("\n")[0]
    word = re.match(r"\W*([A-Za-z]+)", first)
    return not first.rstrip().endswith((".", "!", "?", ":")) or word is None or word[1].lower() in NO_VERBS


def say_comments(what: str, files: Files) -> None:
    lines = sum(text.count("\n") for text in files.values())
    comments = sum(
        token.type == tokenize.COMMENT
        for text in files.values()
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
    )
    print(f"comments in a hundred lines, {what}: {100 * comments / lines:.1f} ({comments} in {lines:,})")


if __name__ == "__main__":
    main()
