"""The folder a local stack lives in: where its parts keep what, its secrets, and the addresses commands need.

Secrets are made once and stay, because the databases depend on them. `stack.env` is written at every start: it is what
a command or a flow needs in its environment to work with this stack, and what `darkroom env` prints.
"""

from __future__ import annotations

import base64
import fcntl
import os
import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO

from dotenv import dotenv_values

from darkroom.deployments.inherited import foreign_to_prefect, usable_proxies
from darkroom.errors import NeedsHuman

FOLDER_MODE = 0o700
# Postgres does not run as root, so there its own user must get through to its folder. It may pass, not list.
FOLDER_MODE_FOR_ROOT = 0o711
FILE_MODE = 0o600
# Set by `darkroom env` in the shell it is evaluated in: the folder whose stack that shell speaks to.
EXPORTED_FROM = "DARKROOM_EXPORTED_FROM"


class Home:
    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.run = self.path / "run"
        self.log = self.path / "log"
        self.postgres = self.path / "postgres"
        self.prefect = self.path / "prefect"
        self.results = self.path / "results"
        self.simulator = self.path / "simulator"
        self.temporary = self.path / "tmp"
        self.operator_key = self.path / "operator.key"
        self.secrets_file = self.path / "secrets.env"
        self.provisioned = self.run / "provisioned"  # there once this start has brought the home to its version

    def prepare(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self.path.chmod(FOLDER_MODE_FOR_ROOT if os.geteuid() == 0 else FOLDER_MODE)
        for folder in (self.run, self.log, self.prefect, self.results, self.simulator, self.temporary):
            folder.mkdir(mode=FOLDER_MODE, exist_ok=True)

    def lock(self) -> IO[str]:
        """Lock the folder for as long as the file stays open. Raise NeedsHuman where a stack runs in it."""
        # Two would fight over its database. The kernel's lock ends with its process, however that ends.
        handle = (self.run / "lock").open("w")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.close()
            raise NeedsHuman(f"a stack runs in {self.path} already: stop it, or choose another --home") from error
        return handle

    def secrets(self) -> dict[str, str]:
        if not self.secrets_file.exists():
            write_environment(self.secrets_file, _new_secrets())
        found = read_environment(self.secrets_file)
        if missing := [name for name in _new_secrets() if not found.get(name)]:
            raise NeedsHuman(
                f"{self.secrets_file} lacks {', '.join(missing)}: bring the file back as it was. Where it is lost, "
                "`darkroom up --new-secrets` writes the blocks anew, from FAL_KEY and its like"
            )
        return found

    def renew_secrets(self) -> None:
        """Make new secrets, and keep the former file beside them."""
        if self.secrets_file.exists():
            self.secrets_file.replace(self.secrets_file.with_suffix(".former"))
        self.secrets()

    def environment(self) -> dict[str, str]:
        """Return what `write` recorded, or nothing if no stack was started here yet."""
        return read_environment(self.path / "stack.env")

    def exports(self, shell: Mapping[str, str] = MappingProxyType({})) -> str:
        """Return lines for a shell to evaluate. Empty if no stack was started here yet.

        They are what `prefect` and `darkroom` need: a simulated stack's proxy and certificates would take the internet
        from everything else in that shell. Ours find them by the folder. What the shell says of another Prefect goes.
        """
        if not (recorded := self.environment()):
            return ""
        ours = {name: value for name, value in recorded.items() if name.startswith(("PREFECT_", "DARKROOM_"))}
        proxies = {name: value for name, value in usable_proxies(shell).items() if shell.get(name) != value}
        marked = {**ours, **proxies, EXPORTED_FROM: str(self.path)}
        unset = "".join(f"unset {name}\n" for name in foreign_to_prefect(shell) if name not in ours)
        return unset + "".join(f"export {name}={_always_quoted(value)}\n" for name, value in marked.items())

    def record_environment(self, environment: Mapping[str, str]) -> None:
        write_environment(self.path / "stack.env", environment)

    def pid_file(self, part: str) -> Path:
        return self.run / f"{part}.pid"

    def log_file(self, part: str) -> Path:
        return self.log / f"{part}.log"


def read_environment(file: Path) -> dict[str, str]:
    if not file.exists():
        return {}
    # A value may have a `$` in it, which would be taken for a variable.
    return {name: value or "" for name, value in dotenv_values(file, interpolate=False).items()}


def write_environment(file: Path, environment: Mapping[str, str]) -> None:
    write_private(file, "".join(f"{name}={_quoted(value)}\n" for name, value in environment.items()))


def write_private(file: Path, content: str) -> None:
    """Replace the file in one step; nobody but its owner ever sees the content."""
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    # Made with its mode: were that set afterwards, somebody could have opened it before.
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE), "w") as handle:
        handle.write(content)
    draft.replace(file)


def _new_secrets() -> dict[str, str]:
    return {
        "PREFECT_API_AUTH_STRING": f"darkroom:{secrets.token_urlsafe(24)}",
        # The form of a Fernet key.
        "PREFECT_SERVER_ENCRYPTION_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "DARKROOM_SIGNING_KEY": secrets.token_urlsafe(32),
    }


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _always_quoted(value: str) -> str:
    quoted = shlex.quote(value)
    return quoted if quoted.startswith("'") else f"'{quoted}'"
