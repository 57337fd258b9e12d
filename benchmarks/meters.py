"""What processes use, as the kernel counts it. Linux only.

CPU of a part: its own time and that of the children it has reaped (`cutime`), summed over the living tree below it, so
a process that has ended is in the sum as soon as its parent has noticed. Memory: PSS, in which a page that several
processes share is divided among them, so forked children are not counted as if each had all of its own.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")
WORKER, FLOW_PROCESSES = "worker", "flow processes"
SUPERVISOR = "supervisor"
# A walk over the page tables of every process: about 5 ms for each, so not often.
SECONDS_BETWEEN_SAMPLES = 1.0
_REQUEST = re.compile(r'- "(?P<method>[A-Za-z]+) (?P<path>[^ "?]+)[^"]*"')
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|\b[0-9a-f]{32}\b|(?<=/name/)[^/]+/[^/]+|(?<=/key/)[^/]+")


@dataclass(frozen=True, kw_only=True)
class Process:
    parent: int
    own_seconds: float
    reaped_seconds: float  # of children that have ended

    @property
    def seconds(self) -> float:
        return self.own_seconds + self.reaped_seconds


def processes() -> dict[int, Process]:
    found = {}
    for folder in PROC.glob("[0-9]*"):
        with suppress(OSError):
            found[int(folder.name)] = parse_stat((folder / "stat").read_text())
    return found


def parse_stat(line: str) -> Process:
    """A process may call itself anything, so its name is cut off at the last bracket."""
    fields = line.rpartition(")")[2].split()
    user, system, reaped_user, reaped_system = (int(field) / TICKS for field in fields[11:15])
    return Process(parent=int(fields[1]), own_seconds=user + system, reaped_seconds=reaped_user + reaped_system)


def trees(table: Mapping[int, Process], roots: Mapping[str, int]) -> dict[str, list[int]]:
    """Part → its processes. What is below the worker are flow processes; of the supervisor only itself is taken."""
    children = defaultdict(list)
    for pid, process in table.items():
        children[process.parent].append(pid)
    found: dict[str, list[int]] = {}
    for part, root in roots.items():
        below = [] if part == SUPERVISOR else list(_below(root, children))
        if part == WORKER:
            found |= {WORKER: [root], FLOW_PROCESSES: below}
        else:
            found[part] = [root, *below]
    return found


def _below(pid: int, children: Mapping[int, list[int]]) -> Iterator[int]:
    for child in children.get(pid, ()):
        yield child
        yield from _below(child, children)


def cpu_seconds(table: Mapping[int, Process], roots: Mapping[str, int]) -> dict[str, float]:
    """By part. What the worker has reaped were flow processes; what the supervisor has reaped were parts."""
    used = {part: sum(table[pid].seconds for pid in pids if pid in table) for part, pids in trees(table, roots).items()}
    for part in (WORKER, SUPERVISOR):
        if part in used and roots[part] in table:
            used[part] = table[roots[part]].own_seconds
    if WORKER in used and roots[WORKER] in table:
        used[FLOW_PROCESSES] += table[roots[WORKER]].reaped_seconds
    return used


def memory_bytes(roots: Mapping[str, int]) -> dict[str, int]:
    """PSS by part."""
    return {part: sum(_pss(pid) for pid in pids) for part, pids in trees(processes(), roots).items()}


def _pss(pid: int) -> int:
    with suppress(OSError, IndexError):
        text = (PROC / str(pid) / "smaps_rollup").read_text()
        return int(text.partition("\nPss:")[2].split()[0]) * 1024
    return 0


def machine_seconds() -> float:
    """CPU used by everybody since the machine started, without what its host gave to others."""
    user, nice, system, _, _, irq, softirq = (
        int(field) / TICKS for field in (PROC / "stat").read_text().split("\n", 1)[0].split()[1:8]
    )
    return user + nice + system + irq + softirq


class AccessLog:
    """The requests a server has answered, counted from the lines it logs."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read = 0
        self._requests: Counter[str] = Counter()

    def look(self) -> Counter[str]:
        """All so far, by method and path."""
        with suppress(OSError), self._file.open("rb") as log:
            log.seek(self._read)
            whole, _, _ = log.read().rpartition(b"\n")
            self._read += len(whole)
            self._requests.update(filter(None, map(requested, whole.decode(errors="replace").split("\n"))))
        return self._requests.copy()


def requested(line: str) -> str | None:
    """`POST /api/flow_runs/…/set_state` of an access log's line, None of any other. Ids are left out."""
    found = _REQUEST.search(line)
    return f"{found['method']} {_ID.sub('…', found['path'])}" if found else None


@dataclass
class Memory:
    """At first, and in the moment in which most was used."""

    first: dict[str, int] = field(default_factory=dict)
    peak: dict[str, int] = field(default_factory=dict)

    def look(self, roots: Mapping[str, int]) -> None:
        now = memory_bytes(roots)
        self.first = self.first or now
        if sum(now.values()) > sum(self.peak.values()):
            self.peak = now


@contextmanager
def sampled_memory(roots: Callable[[], Mapping[str, int]]) -> Iterator[Memory]:
    memory, done = Memory(), threading.Event()
    memory.look(roots())

    def sample() -> None:
        while not done.wait(SECONDS_BETWEEN_SAMPLES):
            memory.look(roots())

    thread = threading.Thread(target=sample, name="memory")
    thread.start()
    try:
        yield memory
    finally:
        done.set()
        thread.join()


def own_cpu_seconds() -> float:
    return time.process_time()
