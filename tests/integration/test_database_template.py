"""A new home's databases are copies of a template that is made once, holds nothing, and is never used half made.

To make one takes ten CPU seconds. The tests look into the one of this user's cache, which bears a digest of what makes
it, and is made here where nobody has yet; how it is published and copied is tested with a cache of their own.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from support import wait_until

from darkroom.deployments.kernel import LINUX
from darkroom.deployments.stack import template as making
from darkroom.deployments.stack.postgres import Cluster, cluster_in
from darkroom.deployments.stack.processes import MARK, marked
from darkroom.deployments.stack.template import (
    VERSIONS_FILE,
    cache_folder,
    copy_template,
    is_migrated,
    make_databases,
)
from darkroom.ledger import OPERATOR, Ledger


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    # Not below pytest's own folder: that one is closed to other users, and as root Postgres runs as one.
    with tempfile.TemporaryDirectory(prefix="darkroom-tests-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def made(folder: Path) -> Path:
    """Databases as the sources of today make them."""
    (folder / "made").mkdir()
    make_databases(folder / "made" / "postgres", cache=cache_folder(os.environ))
    return folder / "made" / "postgres"


@pytest.fixture(scope="module")
def cache(folder: Path, made: Path) -> Path:
    """With the template in it that the first home has made."""
    assert not copy_template(folder / "first" / "postgres", cache=folder / "cache")
    (folder / "first").mkdir()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(making, "_make", lambda draft: shutil.copytree(made, draft, symlinks=True))
        make_databases(folder / "first" / "postgres", cache=folder / "cache")
    return folder / "cache"


@pytest.fixture
def home(folder: Path) -> Iterator[Path]:
    home = folder / "home"
    home.mkdir()
    yield home
    shutil.rmtree(home)


@contextmanager
def running(cluster: Cluster) -> Iterator[None]:
    server = subprocess.Popen(
        cluster.command(), cwd=cluster.data, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **cluster.identity
    )
    try:
        wait_until(cluster.answers, timeout=30, every=0.05, what="the server")
        yield
    finally:
        cluster.stop(server)


def rows(cluster: Cluster, database: str, query: str) -> list[Any]:
    with psycopg.connect(cluster.url(database)) as connection:
        return connection.execute(query).fetchall()


def template(cache: Path) -> Path:
    (found,) = (each for each in (cache / "clusters").iterdir() if each.is_dir())
    return found


def test_a_copy_is_migrated_and_holds_nothing_of_anybodys(cache: Path, home: Path) -> None:
    """Both schemas and the types of blocks are there; no key, no block, no run, and no user but the operator."""
    assert copy_template(home / "postgres", cache=cache)
    cluster = cluster_in(home / "postgres")
    assert is_migrated(cluster.data)
    with running(cluster):
        slugs = {slug for (slug,) in rows(cluster, "prefect", "SELECT slug FROM block_type")}
        assert {"slack-webhook", "s3-bucket", "local-file-system", "secret"} <= slugs
        for table in ("configuration", "block_document", "flow_run", "variable", "work_pool"):
            assert rows(cluster, "prefect", f"SELECT * FROM {table}") == [], table
        ledger = Ledger(cluster.url("darkroom"))
        assert [user.id for user in ledger.users.all()] == [OPERATOR]
        ledger.close()
        assert rows(cluster, "darkroom", "SELECT * FROM api_key") == []


def test_a_template_that_others_can_write_or_that_is_not_whole_is_not_used(cache: Path, home: Path) -> None:
    """Whoever can write it can have the server do anything; one without its mark was not finished."""
    found = template(cache)
    found.chmod(0o777)
    assert not copy_template(home / "postgres", cache=cache)
    found.chmod(0o700)
    mark = (found / VERSIONS_FILE).read_text()
    (found / VERSIONS_FILE).write_text("prefect=0")
    assert not copy_template(home / "postgres", cache=cache)
    (found / VERSIONS_FILE).write_text(mark)
    assert copy_template(home / "postgres", cache=cache)


def test_who_comes_second_copies_and_what_a_killed_start_left_is_no_hindrance(cache: Path, home: Path) -> None:
    """The template is made under a lock, and looked for again once that is had."""
    before = template(cache).stat().st_ino
    (home / "postgres.new").mkdir()
    (home / "postgres.new" / "half").touch()
    make_databases(home / "postgres", cache=cache)
    assert template(cache).stat().st_ino == before
    assert not (home / "postgres" / "half").exists()


@pytest.mark.skipif(not LINUX, reason="elsewhere nobody tells who waits for a lock")
def test_who_comes_while_it_is_made_waits_for_it(cache: Path, home: Path) -> None:
    """Else each of several stacks that start at once would make it, for a dozen CPU seconds."""
    lock = template(cache).with_suffix(".lock")

    def is_waited_for() -> bool:
        waiting = [line for line in Path("/proc/locks").read_text().splitlines() if "->" in line]
        return any(f":{lock.stat().st_ino} " in line for line in waiting)

    with ThreadPoolExecutor(1) as pool, lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_SH)  # as weak a lock as there is keeps out who wants it alone
        second = pool.submit(make_databases, home / "postgres", cache=cache)
        wait_until(lambda: is_waited_for() or second.done())
        assert not second.done()
        fcntl.flock(held, fcntl.LOCK_UN)
        second.result(timeout=60)


def test_a_cache_that_cannot_be_written_is_done_without(
    cache: Path, folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The home gets its databases all the same; they are copied here, as to make them takes ten CPU seconds."""
    monkeypatch.setattr(making, "_make", lambda draft: shutil.copytree(template(cache), draft, symlinks=True))
    nowhere = folder / "a-file"
    nowhere.touch()
    make_databases(home / "postgres", cache=nowhere)
    assert is_migrated(home / "postgres")


def test_a_start_that_is_killed_leaves_nothing_that_migrates(folder: Path) -> None:
    """It bears the mark of its stack, so that the janitor finds it where the kernel does not end it."""
    start_of = [sys.executable, "-P", "-m", "darkroom.deployments.stack.template"]
    mark = f"{folder}#1.killed"
    (folder / "killed").mkdir()
    with subprocess.Popen(
        [*start_of, str(folder / "killed" / "postgres"), "--cache", str(folder / "none")],
        env=os.environ | {MARK: mark},
        start_new_session=True,
    ) as start:
        wait_until(lambda: migrating(mark), timeout=120, what="the migrations")
        below = psutil.Process(start.pid).children(recursive=True)
        start.kill()
    _, left = psutil.wait_procs(below, timeout=20)
    assert left == []


def migrating(mark: str) -> bool:
    return any("darkroom.deployments.stack.migrations" in command(each) for each in marked(lambda found: found == mark))


def command(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):  # it has ended
        return process.cmdline()
    return []
