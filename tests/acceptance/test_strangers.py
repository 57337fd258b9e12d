"""A fresh clone on somebody else's machine: their folder, their user, their shell."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from running import ROOT, hostile
from support import SLOW

from darkroom.deployments.stack.postgres import Identity

SITES = [each for each in sys.path if each.endswith("site-packages")]
# What another user needs: this very version of Python, and what is installed here.
USABLE = """
import os, sys, venv
version, *sites = sys.argv[1:]
sys.exit(version != f"{sys.version_info[:2]}" or not all(os.access(each, os.R_OK | os.X_OK) for each in sites))
"""
# Prefect reads them where it starts.
SETTINGS = {
    ".env": "PREFECT_SERVER_API_BASE_PATH=/theirs\nPREFECT_API_KEY=pnu_theirs\n",
    "prefect.toml": "[server.api]\ncsrf_protection_enabled = true\n\n[results]\npersist_by_default = false\n",
}


STEP = re.compile(r"([\d.]+) s  (\w+)")  # a line of the demo's table


@dataclass(frozen=True, kw_only=True)
class Stranger:
    folder: Path
    identity: Identity
    home: Path

    def run(self, *command: str, **environment: str) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={"PATH": os.defpath, "HOME": str(self.home), "LANG": "C.UTF-8", **environment},
            text=True,
            capture_output=True,
            timeout=SLOW * 150,
            **self.identity,
        )
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    """Somebody with a clone in a folder of their own, who is not root."""
    if shutil.which("make", path=os.defpath) is None:
        pytest.skip("there is no make")
    identity = _somebody()
    if (python := _python(identity)) is None:
        pytest.skip("no other user can use this Python and what is installed for it")
    with tempfile.TemporaryDirectory(prefix="darkroom-tests-") as place:
        folder, home = Path(place, "My Projects (100%)"), Path(place, "home")
        home.mkdir()
        _clone(folder)
        for name, text in SETTINGS.items():
            (folder / name).write_text(text)
        for each in (Path(place), *Path(place).rglob("*")):
            shutil.chown(each, identity.get("user"), identity.get("group"))
        stranger = Stranger(folder=folder, identity=identity, home=home)
        stranger.run(python, "-m", "venv", "--without-pip", ".venv")
        (own,) = folder.glob(".venv/lib/*/site-packages")
        (own / "needed.pth").write_text("\n".join(SITES))
        yield stranger


def _somebody() -> Identity:
    """Return whom to be in the place of root."""
    if os.geteuid() != 0:
        return Identity(user=os.geteuid(), group=os.getegid(), extra_groups=os.getgroups())
    nobody = pwd.getpwnam("nobody")
    return Identity(user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[])


def _python(identity: Identity) -> str | None:
    name = "python{}.{}".format(*sys.version_info)
    found = shutil.which(name, path=os.defpath)
    wanted = ["-c", USABLE, f"{sys.version_info[:2]}", *SITES]
    for each in filter(None, (getattr(sys, "_base_executable", None), found)):
        with suppress(OSError):
            if subprocess.run([each, *wanted], cwd="/", **identity).returncode == 0:
                return str(each)
    return None


def _clone(folder: Path) -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, text=True, capture_output=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).is_file():  # one that is deleted and not committed is tracked still
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)


def test_make_demo_runs_on_somebody_elses_machine(stranger: Stranger, tmp_path: Path) -> None:
    """One picture the whole way, with the databases made on the way, and nothing of their shell or folder in it.

    `make` installs the clone. Left out is the download of what it needs, as far as it is installed here: the folder
    borrows that by a `.pth`, and pip adds what this Python lacks.
    """
    pips = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_CERT_"))}
    stranger.run("make", "install", **pips)
    said = stranger.run("make", "demo", **hostile(stranger.home / "modules"))
    at = {step: float(seconds) for seconds, step in reversed(STEP.findall(said))}  # when it was there first
    assert {"submitted", "running", "webhook", "stored", "completed"} <= at.keys(), said
    # A run that a slow machine begins as the answer comes, or after it, has nothing to sleep for.
    if at["running"] < at["webhook"] / 4:
        assert at["running"] < at.get("suspended", 0) < at["webhook"] < at.get("resumed", 0), said
    (picture,) = [line.removeprefix("Picture ").strip() for line in said.splitlines() if line.startswith("Picture ")]
    assert picture.startswith(str(stranger.folder / ".darkroom" / "media"))
    assert Path(picture).read_bytes()[:2] in (b"\xff\xd8", b"\x89P")
    assert (stranger.folder / ".darkroom" / "prefect" / "ui" / "v1" / "index.html").exists()
    assert Path(picture).stat().st_uid == stranger.identity["user"]
