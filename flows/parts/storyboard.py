"""A debate as a person follows it: how far it has come, and a storyboard of what there is.

It is read from the record alone, so it may be told at any time, and tells the same whoever carries the job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from darkroom import Job
from darkroom.flows.parts.debate_script import Script
from darkroom.ledger import Asset, RequestStatus

# Each node's share of the time, and what is said while it is not done.
NODES: Mapping[str, tuple[int, str]] = {
    "script": (12, "the script is being written"),
    "mascot-1": (8, "the mascots are being painted"),
    "mascot-2": (8, "the mascots are being painted"),
    "stage": (2, "the mascots are put on their stage"),
    "voice": (5, "the voice is being recorded"),
    "film": (50, "the film is being made"),
    "composite": (8, "film, voice and captions are put together"),
    "upload": (7, "the video is on its way to its stream"),
}
_FILELESS = ("script", "upload")  # they leave an answer, and no file
_NO_MARKUP = str.maketrans(dict.fromkeys("`|<>[]\\\n\r*_#", " "))


def tell(job: Job, brands: Sequence[str]) -> None:
    files = {asset.step: asset for asset in job.assets if asset.step is not None}
    done = _done(job, files)
    left = [text for node, (_, text) in NODES.items() if node not in done]
    job.progress(sum(NODES[node][0] for node in done), left[0] if left else "done")
    if (script := _script(job)) is not None:
        job.show("storyboard", storyboard(job, script, brands, files), description=f"{len(done)} of {len(NODES)} done")


def storyboard(job: Job, script: Script, brands: Sequence[str], files: Mapping[str, Asset]) -> str:
    """Markdown. `files`: by node."""
    looks = zip(brands, ("mascot-1", "mascot-2"), (script.mascot_first, script.mascot_second), strict=True)
    return "\n".join(
        [
            f"## {_plain(script.title)}",
            "",
            _plain(script.summary),
            "",
            f"![both on their stage]({job.link(files['stage'])})" if "stage" in files else "…",
            "",
            "| Side | Picture | Mascot |",
            "| --- | --- | --- |",
            *[f"| **{_plain(brand)}** | {_file(job, files, node)} | {_plain(look)} |" for brand, node, look in looks],
            "",
            "| Side | Says |",
            "| --- | --- |",
            *[f"| **{_plain(speaker)}** | {_plain(text)} |" for speaker, text in script.lines(brands)],
            "",
            *[f"- {words}: {_file(job, files, node)}" for node, words in _LINKED.items()],
        ]
    )


_LINKED = {"film": "Film", "voice": "Voice", "composite": "Film with voice and captions"}


def _done(job: Job, files: Mapping[str, Asset]) -> set[str]:
    answered = {row.step for row in job.calls if row.status is RequestStatus.SUCCEEDED}
    return {node for node in NODES if node in (answered if node in _FILELESS else files)}


def _script(job: Job) -> Script | None:
    for row in job.calls:
        if row.step == "script" and row.output is not None:
            return Script.model_validate(row.output["json"])
    return None


def _file(job: Job, files: Mapping[str, Asset], node: str) -> str:
    if node not in files:
        return "…"
    asset = files[node]
    length = "" if asset.seconds is None else f", {asset.seconds:.1f} s"
    return f"[open]({job.link(asset)}), {asset.bytes // 1024:,} KB{length}"


def _plain(text: str) -> str:
    """Write them as words of a cell, whoever gave them."""
    return text.translate(_NO_MARKUP)
