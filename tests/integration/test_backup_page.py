"""docs/backup.md, run as it is written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from ledger_databases import Databases

from darkroom.deployments.home import Home
from darkroom.ledger import Ledger

PAGE = Path(__file__).parents[2] / "docs" / "backup.md"


def run(block: str, folder: Path) -> None:
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "DARKROOM_HOME": ".darkroom"}
    done = subprocess.run(["bash", "-euc", block], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def home_of(folder: Path, ledger_url: str) -> Home:
    """What `darkroom up` has made there, as far as a backup is about it."""
    home = Home(folder)
    home.prepare()
    home.record_environment({"DARKROOM_HOME": str(folder), "DARKROOM_LEDGER_URL": ledger_url})
    return home


def test_a_backup_brings_everything_into_a_new_home(databases: Databases, tmp_path: Path) -> None:
    """The commands of the page, in their order: the ledger with its users' keys, the files, and the secrets."""
    back_up, unpack, restore = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    with databases.fresh() as old_url, databases.fresh() as new_url:
        home = home_of(tmp_path / ".darkroom", old_url)
        secrets = home.secrets()
        (home.path / "media" / "images").mkdir(parents=True)
        (home.path / "media" / "images" / "fox.png").write_bytes(b"a fox")
        with closing(Ledger(old_url)) as ledger:
            key = ledger.users.add("ann").key
        run(back_up, tmp_path)
        shutil.rmtree(home.path)

        run(unpack, tmp_path)
        restored = home_of(tmp_path / "restored", new_url)
        with closing(Ledger(new_url)) as ledger:
            ledger.users.add("somebody of the new stack's")
        run(restore, tmp_path)
        with closing(Ledger(new_url)) as ledger:
            assert {user.name for user in ledger.users.all()} == {"ann", "operator"}
            assert ledger.users.authenticate(key)
        assert restored.secrets() == secrets
        assert (restored.path / "media" / "images" / "fox.png").read_bytes() == b"a fox"
