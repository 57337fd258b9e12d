"""Commands of a shell that knows nothing but where it is: they find the stack of their folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import patch

import pytest
from running_gateway import RunningGateway
from support import wait_until

from darkroom.deployments.cli import main
from darkroom.deployments.home import Home, write_private
from darkroom.ledger import OPERATOR, JobStatus, Ledger

Command = Callable[..., str]


@pytest.fixture(params=["beside it", "named"])
def command(
    request: pytest.FixtureRequest,
    gateway: RunningGateway,
    ledger: Ledger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Command]:
    """Give what `darkroom` prints, in the folder beside `.darkroom` or with DARKROOM_HOME; nothing else is exported."""
    home = Home(tmp_path / ".darkroom")
    home.prepare()
    home.record_environment({"DARKROOM_HOME": str(home.path), "DARKROOM_GATEWAY_URL": gateway.url})
    write_private(home.operator_key, ledger.users.rotate(OPERATOR).key + "\n")
    shell = {"PATH": os.environ["PATH"]}
    if request.param == "named":
        shell["DARKROOM_HOME"] = str(home.path)
    else:
        monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert not ended.value.code, ended.value.code
        return capsys.readouterr().out

    with patch.dict(os.environ, shell, clear=True):
        yield call


def test_commands_find_the_stack_of_their_folder(command: Command, ledger: Ledger) -> None:
    """A picture is ordered, waited for and looked at, and what is refused is one line."""
    operator = ledger.users.find(OPERATOR).id

    def end_it() -> None:
        (job,) = wait_until(lambda: ledger.jobs.page(operator, limit=2), what="the order")
        ledger.jobs.finish(job.id, JobStatus.COMPLETED)

    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(end_it)
        job = json.loads(command("generate", "a fox, by command", "--image-size", "256x192", "--wait"))
        ending.result()
    assert job["status"] == "completed"
    assert job["order"]["image_size"] == {"width": 256, "height": 192}
    assert json.loads(command("status", job["id"]))["id"] == job["id"]
    assert command("why", job["id"]) == "Nothing: it is completed.\n"
    with pytest.raises(SystemExit) as refused:
        main(["generate", " "])
    said = str(refused.value.code)
    assert said.startswith("darkroom: ") and "\n" not in said
