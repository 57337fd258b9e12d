"""Where an answer has files: every object with a `url`, wherever it stands, and every text that is a file inline.

They are numbered in the order in which they stand, and so that the numbers last: a file that lay inline and is in the
media store by now keeps its place. After them come those that are named by their address alone, as a user's workflow
answers (`{"image": "https://v3.fal.media/…"}`), each once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from darkroom.errors import Permanent
from darkroom.media.formats import Kind, RemoteFile
from darkroom.models.schemas import ASSET

MOST_FILES = 64
DEEPEST = 32  # an answer may be nested as it likes, and each level is a call of these functions
INLINE = re.compile(r"data:[\w.+-]+/[\w.+-]+(?:;[\w=.+-]+)*;base64,")

# Without a user or a port: with them nothing is fetched (`darkroom/media/fetching.py`).
ADDRESS = re.compile(r"https://([^/?#@:\s]+)(?:[/?#]\S*)?")

Hosts = re.Pattern[bytes]


def files_of(endpoint: str, output: Mapping[str, Any], *, hosts: Hosts) -> list[RemoteFile]:
    """Return the files of an output. Raise Permanent(code="unexpected_output") for more than anybody asks for.

    `hosts`: where the provider keeps its files; an address elsewhere is a link, and stays in the rest.
    """
    found = [_remote(file, hosts) for file in _walk(output, hosts)]
    known = {file.url for file in found}
    alone = dict.fromkeys(text for text in _texts(output) if _is_at(text, hosts) and text not in known)
    # After all others, so that files of jobs under way keep their numbers.
    found += [_remote({"url": url}, hosts) for url in alone]
    if len(found) > MOST_FILES:
        raise Permanent(f"{endpoint} returned {len(found)} files", code="unexpected_output")
    return found


def files_under(
    kinds: Mapping[str, Kind], endpoint: str, output: Mapping[str, Any], *, hosts: Hosts
) -> list[RemoteFile]:
    """Return the files that stand under these names, one or a list, in their order and of these kinds.

    Raise Permanent(code="unexpected_output") where one has none, or more than anybody asks for.
    """
    found = []
    for name, kind in kinds.items():
        stands = output.get(name)
        files = stands if isinstance(stands, list) else [stands]
        if not 1 <= len(files) <= MOST_FILES:
            raise Permanent(f"{endpoint} returned {len(files)} files in `{name}`", code="unexpected_output")
        for file in files:
            if not isinstance(file, Mapping) or not str(file.get("url")).startswith("https://"):
                raise Permanent(f"{endpoint} returned no web address in `{name}`", code="unexpected_output")
            found.append(replace(_remote(file, hosts), kind=kind))
    return found


def rest_of(output: Mapping[str, Any], kept: Mapping[str, str]) -> dict[str, Any]:
    """Return the output with a reference in the place of each file. `kept`: their assets' ids, by their addresses."""

    def replaced(value: Any, depth: int = 0) -> Any:
        if depth > DEEPEST:
            return None
        if isinstance(value, str):
            return {"asset_id": kept[value]} if value in kept else value
        if isinstance(value, list):
            return [replaced(each, depth + 1) for each in value]
        if not isinstance(value, Mapping):
            return value
        facts = value
        url = value.get("url")
        if isinstance(url, str) and url in kept:
            # `file_data` would be the same bytes again, inline.
            facts = {"asset_id": kept[url]} | {name: value[name] for name in value if name not in ("url", "file_data")}
        return {name: each if name == "asset_id" else replaced(each, depth + 1) for name, each in facts.items()}

    return dict(replaced(output))


def _walk(value: Any, hosts: Hosts, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    if depth > DEEPEST:
        return
    if _is_file(value, hosts):
        yield value
        value = {name: each for name, each in value.items() if name not in ("url", "file_data")}
    if isinstance(value, str):
        if _is_inline(value):
            yield {"url": value}
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _walk(each, hosts, depth + 1)
    elif isinstance(value, list):
        for each in value:
            yield from _walk(each, hosts, depth + 1)


def _texts(value: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth <= DEEPEST and isinstance(value, Mapping | list):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(each, depth + 1)


def _is_inline(text: str) -> bool:
    # The beginning alone: what follows may be megabytes.
    return bool(INLINE.match(text[:200])) or text.startswith(f"{ASSET}ast_")


def _is_file(value: object, hosts: Hosts) -> bool:
    url = value.get("url") if isinstance(value, Mapping) else None
    return isinstance(url, str) and (_is_at(url, hosts) or _is_inline(url))


def _is_at(text: str, hosts: Hosts) -> bool:
    """Return whether the text is the address of a file of the provider's, and nothing else."""
    at = ADDRESS.fullmatch(text)
    return bool(at and hosts.fullmatch(at[1].lower().encode()))


def _remote(file: Mapping[str, Any], hosts: Hosts) -> RemoteFile:
    content_type = file.get("content_type")
    return RemoteFile(
        url=file["url"],
        hosts=hosts,
        kind=Kind.FILE,
        content_type=content_type if isinstance(content_type, str) else None,
        width=_positive(file.get("width")),
        height=_positive(file.get("height")),
    )


def _positive(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
