"""Darkroom beside DBOS and Restate: `python benchmarks/peers/run.py --into DIR`. README.md says what is compared.

The peers are installed from their registries into a folder of their own (`--peers`, default `build/peers`), never into
Darkroom's environment. All contestants are up at once, with the same simulated provider, and are given each workload
in turn, round by round, so what the machine does beside is in all of them. What is printed first is ratios.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # where the benchmark is, and what starts a stack

import httpx  # noqa: E402
from support import free_port, wait_until  # noqa: E402

from benchmarks import report  # noqa: E402
from benchmarks.contestants import (  # noqa: E402
    Contestant,
    Floor,
    answers,
    rows_of,
    running_cluster,
    running_darkroom,
    running_process,
)
from benchmarks.figures import Result, Round, Spread, result  # noqa: E402
from benchmarks.provider import Provider, running_provider  # noqa: E402
from benchmarks.workloads import ALONE, BURST, LIMITED_FAST, alone, burst, limited  # noqa: E402

PACKAGES = ("dbos==3.4.0", "restate-sdk==1.3.0", "hypercorn", "uvicorn", "starlette", "fal-client", "httpx")
DRIVERS = ("psycopg[binary]", "psycopg-pool")
RESTATE_SERVER = "@restatedev/restate-server@1.7"
DARKROOM, DBOS, RESTATE = "darkroom", "dbos", "restate"
FIGURES = {  # of each workload, what is compared; of all less is better but of the first
    BURST: ("pictures_per_second", "cpu_ms", "next_line_ms_p50", "next_line_ms_p95"),
    ALONE: ("overhead_ms_p50", "overhead_ms_p95", "cpu_ms"),
    LIMITED_FAST: ("wall_to_ideal", "cpu_ms"),
}


class Peer(Floor):
    """As the floor: the same routes, the same table."""

    def __init__(self, name: str, floor: Floor) -> None:
        self.__dict__.update(vars(floor))
        self.name = name


def install(folder: Path) -> Path:
    """Install the peers where they are not, and return their Python."""
    python = folder / "venv" / "bin" / "python"
    if not python.exists():
        venv.create(folder / "venv", with_pip=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *PACKAGES, *DRIVERS], check=True)
    if not restate_server(folder):
        subprocess.run(["npm", "install", "--silent", "--prefix", folder, RESTATE_SERVER], check=True)
    return python


def restate_server(folder: Path) -> Path | None:
    """Return the server itself, not the script that starts it: its CPU is read by its pid."""
    return next(folder.glob("node_modules/@restatedev/restate-server-*/bin/restate-server"), None)


@contextmanager
def running_dbos(home: Path, provider: Provider, python: Path) -> Iterator[Peer]:
    port, folder = free_port(), _folder(home)
    with running_cluster(home) as cluster:
        command = [str(python), str(HERE / "dbos_pictures.py"), "--port", str(port), "--folder", str(folder)]
        with _running([*command, "--database", cluster.url], home, provider) as process, rows_of(cluster.url) as rows:
            wait_until(lambda: answers(port), timeout=60, every=0.1, what=DBOS)
            parts = {"postgres": cluster.pid, "pool": process.pid}
            yield Peer(DBOS, Floor(rows, port=port, processes=parts))


@contextmanager
def running_restate(home: Path, provider: Provider, python: Path, server: Path) -> Iterator[Peer]:
    port, service, ingress, admin, node = (free_port() for _ in range(5))
    environment = {
        "RESTATE_BASE_DIR": str(home / "restate"),
        "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node}",
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
        "RESTATE_LOG_FILTER": "warn",
        "RESTATE_DISABLE_TELEMETRY": "true",
    }
    command = [str(python), str(HERE / "restate_pictures.py"), "--port", str(port), "--folder", str(_folder(home))]
    command += ["--service-port", str(service), "--ingress", f"http://127.0.0.1:{ingress}"]
    with ExitStack() as up:
        cluster = up.enter_context(running_cluster(home))
        restate = up.enter_context(_running([str(server)], home, provider, environment))
        process = up.enter_context(_running([*command, "--database", cluster.url], home, provider))
        rows = up.enter_context(rows_of(cluster.url))
        wait_until(lambda: answers(port) and answers(service), timeout=60, every=0.1, what="Restate's handlers")
        wait_until(lambda: _registered(admin, service), timeout=60, every=0.2, what="Restate's server")
        parts = {"postgres": cluster.pid, "server": restate.pid, "pool": process.pid}
        yield Peer(RESTATE, Floor(rows, port=port, processes=parts))


def _registered(admin: int, service: int) -> bool:
    try:
        body = {"uri": f"http://127.0.0.1:{service}", "force": True}
        return httpx.post(f"http://127.0.0.1:{admin}/deployments", json=body, trust_env=False).is_success
    except httpx.TransportError:
        return False


@contextmanager
def _running(
    command: list[str], home: Path, provider: Provider, more: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, **provider.environment(), **(more or {})}
    with (
        (home / f"{Path(command[1] if command[1:] else command[0]).stem}.log").open("wb") as log,
        # At once: nothing of theirs is kept, and a handler whose server has streams open to it would not end.
        running_process(command, signal.SIGKILL, env=environment, stderr=log, cwd=home) as process,
    ):
        yield process


def _folder(home: Path) -> Path:
    folder = home / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def compare(contestants: Sequence[Contestant], provider: Provider, sizes: argparse.Namespace) -> list[Result]:
    """Give each workload to each contestant in turn, round by round."""
    seen: dict[tuple[str, str], list[Round]] = {}
    for number in range(sizes.rounds):
        for workload in FIGURES:
            for each in contestants:
                found = _one(workload, each, provider, sizes)
                seen.setdefault((workload, each.name), []).extend(found.rounds)
                print(f"round {number + 1}, {workload}, {each.name}: {_shown(found)}", file=sys.stderr, flush=True)
    return [result(name, workload, rounds) for (workload, name), rounds in seen.items()]


def _one(workload: str, contestant: Contestant, provider: Provider, sizes: argparse.Namespace) -> Result:
    if workload == BURST:
        return burst(contestant, provider, pictures=sizes.burst, rounds=1)
    if workload == ALONE:
        return alone(contestant, provider, pictures=sizes.alone, workload=ALONE)
    return limited(contestant, provider, pictures=sizes.limited, latency=0.5)


def _shown(found: Result) -> str:
    return ", ".join(f"{name} {_median(found, name):.3g}" for name in FIGURES[found.workload])


def _median(found: Result, name: str) -> float:
    value = found.figures.get(name)
    return value.median if isinstance(value, Spread) else float("nan")


def markdown(results: Sequence[Result]) -> str:
    """Ratios of Darkroom to each of the others first, then medians with what they lie between."""
    by = {(each.workload, each.contestant): each for each in results}
    others = [name for name in (DBOS, RESTATE) if any(each.contestant == name for each in results)]
    lines = [f"| | {' | '.join(f'Darkroom ÷ {name}' for name in others)} | {' | '.join([DARKROOM, *others])} |"]
    lines.append("| --- |" + " --- |" * (2 * len(others) + 1))
    for workload, names in FIGURES.items():
        for name in names:
            own = by[workload, DARKROOM]
            ratios = [f"{_median(own, name) / _median(by[workload, other], name):.2f}" for other in others]
            cells = [report.cell(by[workload, each].figures.get(name)) for each in (DARKROOM, *others)]
            lines.append(f"| {workload}: {name} | {' | '.join(ratios)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    sizes = _arguments()
    peers = sizes.peers.resolve()
    python = install(peers)
    server = restate_server(peers)
    with tempfile.TemporaryDirectory(prefix="darkroom-peers-") as folder, ExitStack() as up:
        home = Path(folder)
        home.chmod(0o755)  # as root, Postgres runs as somebody else
        provider = up.enter_context(running_provider(home / "provider"))
        contestants: list[Contestant] = []
        if DARKROOM not in sizes.without:
            contestants.append(up.enter_context(running_darkroom(DARKROOM, home / DARKROOM, provider, worker="warm")))
        if DBOS not in sizes.without:
            contestants.append(up.enter_context(running_dbos(home / DBOS, provider, python)))
        if RESTATE not in sizes.without and server is not None:
            contestants.append(up.enter_context(running_restate(home / RESTATE, provider, python, server)))
        results = compare(contestants, provider, sizes)
        if DARKROOM not in sizes.without:  # before they are stopped, which may fail and would take it along
            text = markdown(results)
            sizes.into.mkdir(parents=True, exist_ok=True)
            (sizes.into / "peers.md").write_text(text)
            print(text, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Darkroom beside DBOS and Restate, in turn.")
    parser.add_argument("--into", type=Path, default=ROOT / "build" / "bench", help="folder for peers.md")
    parser.add_argument("--peers", type=Path, default=ROOT / "build" / "peers", help="where the peers are installed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--burst", type=int, default=200, help="pictures at once, the provider taking 1 s")
    parser.add_argument("--alone", type=int, default=10, help="pictures one by one, the provider taking 1 s")
    parser.add_argument("--limited", type=int, default=1000, help="pictures at 10 in flight, the provider taking 0.5 s")
    parser.add_argument("--without", action="append", default=[], choices=(DARKROOM, DBOS, RESTATE))
    return parser.parse_args()


if __name__ == "__main__":
    main()
