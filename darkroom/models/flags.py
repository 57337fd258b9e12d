"""Which files of an answer its model has flagged as not safe for work.

Models say it beside their files: a list of truth values as long as the list of files, or one for all that stands with
it. What says nothing is neither flagged nor cleared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from darkroom.media.formats import RemoteFile
from darkroom.models.outputs import DEEPEST

NAMES = frozenset(
    {"has_nsfw_concepts", "has_nsfw_concept", "nsfw_content_detected", "nsfw_detected", "is_nsfw", "nsfw"}
)


def with_flags(files: Sequence[RemoteFile], output: Mapping[str, Any]) -> list[RemoteFile]:
    """Return the files of an output with what their model says of each."""
    flags: dict[str, bool] = {}
    for url, flagged in _flags(output):
        # A file that stands in several places is flagged where one of them is.
        flags[url] = flagged or flags.get(url, False)
    return [replace(file, flagged=flags.get(file.url)) for file in files]


def _flags(value: Any, depth: int = 0) -> Iterator[tuple[str, bool]]:
    if depth > DEEPEST:
        return
    if isinstance(value, Mapping):
        for name, said in value.items():
            if name in NAMES:
                yield from _flagged_beside(value, said)
    within = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for each in within:
        yield from _flags(each, depth + 1)


def _flagged_beside(beside: Mapping[str, Any], said: Any) -> Iterator[tuple[str, bool]]:
    """Yield what is said of the addresses that stand beside it."""
    if isinstance(said, bool):
        yield from ((url, said) for url in _addresses(beside))
    if not isinstance(said, list) or not said or not all(isinstance(each, bool) for each in said):
        return
    # The length alone tells of which list it is said.
    lists = [each for each in beside.values() if isinstance(each, list) and each is not said and len(each) == len(said)]
    for files in lists:
        for file, flagged in zip(files, said, strict=True):
            yield from ((url, flagged) for url in _addresses(file))
    if not lists:  # of which it is said is not known, so of all where it is of any
        yield from ((url, any(said)) for url in _addresses(beside))


def _addresses(value: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth <= DEEPEST and isinstance(value, Mapping | list):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _addresses(each, depth + 1)
