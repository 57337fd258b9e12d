"""A job as a person likes to look at it in a terminal: how far it has come, step by step, what it costs, its files.

From the same document that scripts get as JSON.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

COLOURS = {
    "completed": "green",
    "succeeded": "green",
    "failed": "red",
    "expired": "red",
    "cancelled": "yellow",
    "unknown": "yellow",
}
BAR_WIDTH = 40


def print_job(job: dict[str, Any], console: Console | None = None) -> None:
    (console or Console()).print(job_view(job))


def job_view(job: dict[str, Any]) -> RenderableType:
    parts: list[RenderableType] = []
    if progress := job.get("progress"):
        parts.append(_bar(progress))
    if job["waiting_for"]:
        parts.append(Text(f"waits for {job['waiting_for']}"))
    if error := job["error"]:
        at = f" at {error['step']}" if error["step"] else ""
        parts.append(Text(f"failed{at}: {error['message']} ({error['code']})", style="red"))
    if job["requests"]:
        parts.append(_calls(job["requests"]))
    if job["assets"]:
        parts.append(_files(job["assets"]))
    if job.get("result"):
        parts.append(Text(json.dumps(job["result"], indent=2, ensure_ascii=False)))
    # Escaped, or a `Text`: brackets in the words of providers and users are no markup.
    title = f"{job['kind']} [bold]{escape(job['id'])}[/] · {_coloured(job['status'])} · ${job['cost_usd']:.3f}"
    return Panel(Group(*parts) if parts else Text("nothing yet"), title=title, title_align="left")


def _bar(progress: dict[str, Any]) -> RenderableType:
    line = Table.grid(padding=(0, 1))
    line.add_row(
        ProgressBar(completed=progress["percent"], width=BAR_WIDTH),
        f"{progress['percent']:.0f} %",
        escape(progress["text"]),
    )
    return line


def _calls(requests: list[dict[str, Any]]) -> Table:
    table = Table("step", "model", "status", box=None, pad_edge=False)
    table.add_column("took", justify="right")
    table.add_column("cost", justify="right")
    for row in requests:
        step = row["step"] if row["attempt"] == 1 else f"{row['step']}, attempt {row['attempt']}"
        cost = "" if row["cost_usd"] is None else f"${row['cost_usd']:.3f}"
        table.add_row(escape(step), escape(row["endpoint"]), _coloured(row["status"]), _took(row), cost)
    return table


def _files(assets: list[dict[str, Any]]) -> Table:
    table = Table("file", "what it is", box=None, pad_edge=False)
    table.add_column("size", justify="right")
    for asset in assets:
        name = asset["key"].rpartition("/")[2]
        shown = f"[link={asset['url']}]{escape(name)}[/link]" if asset["url"] else f"{escape(name)} (hidden)"
        table.add_row(shown, _measures(asset), f"{asset['bytes'] / 1024:,.0f} KB")
    return table


def _measures(asset: dict[str, Any]) -> str:
    size = f"{asset['width']}×{asset['height']}" if asset["width"] else ""
    seconds = f"{asset['seconds']:.1f} s" if asset["seconds"] else ""
    flagged = "flagged" if asset.get("flagged") else ""
    return " ".join(filter(None, [asset["content_type"], size, seconds, flagged]))


def _took(row: dict[str, Any]) -> str:
    if row["submitted_at"] is None or row["finished_at"] is None:
        return ""
    took = datetime.fromisoformat(row["finished_at"]) - datetime.fromisoformat(row["submitted_at"])
    return f"{took.total_seconds():.1f} s"


def _coloured(status: str) -> str:
    colour = COLOURS.get(status)
    return f"[{colour}]{status}[/]" if colour else status
