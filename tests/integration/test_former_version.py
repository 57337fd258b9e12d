"""What the version before the move under one import name has left on record goes on with this one.

`tests/fixtures/suspended` was written by the code of then: the rows of two suspended jobs, a picture in flight and a
newcomer who is waited for, and Prefect's results of a finished task and of flows that failed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from uuid import UUID

import httpx
import psycopg
import pytest
from alembic import command
from alembic.config import Config
from echoing import EchoProvider, call, opened_resources, picture
from ledger_databases import Databases
from ledger_scenes import SUCCESS
from prefect.cache_policies import CachePolicy
from prefect.filesystems import LocalFileSystem
from prefect.results import ResultStore
from prefect.serializers import JSONSerializer
from psycopg.types.json import Jsonb

from darkroom import Waiting
from darkroom.batches import ManifestError
from darkroom.engine import registry, tasks
from darkroom.engine.signals import Cancelled
from darkroom.errors import Permanent
from darkroom.flows import onboard_user
from darkroom.ledger import Ledger, migrate, migrations
from darkroom.ledger.database import make_engine
from darkroom.providers.registry import Providers

FIXTURES = Path(__file__).parents[1] / "fixtures" / "suspended"
ROWS: dict[str, list[dict[str, Any]]] = json.loads((FIXTURES / "ledger.json").read_text())
PICTURE, NEWCOMER = (job["id"] for job in ROWS["job"])
HEAD = "0007"  # of the ledger then
THEN = datetime.fromisoformat(ROWS["job"][0]["created_at"])


@pytest.fixture
def ledger_url(databases: Databases) -> Iterator[str]:
    """A ledger as it was, brought to this version as `darkroom provision` does it."""
    with databases.fresh(template="template0") as url:
        _migrate_to(url, HEAD)
        with psycopg.connect(url) as connection:
            for table, rows in ROWS.items():
                given = f'INSERT INTO "{table}" SELECT * FROM jsonb_populate_recordset(NULL::"{table}", %s)'
                connection.execute(given, [Jsonb(rows)])  # type: ignore[arg-type]
        migrate(url)
        yield url


def _migrate_to(url: str, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    engine = make_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def test_a_picture_that_was_in_flight_goes_on_with_its_next_step(ledger: Ledger, tmp_path: Path) -> None:
    """Its run is entered again, the call is adopted by its step and input, and nothing is paid again."""
    assert ledger.runs.enter(UUID(int=1), run_key=None) is not None
    (row,) = ledger.requests.of_job(PICTURE)
    ledger.requests.settle(row.ref, SUCCESS, via="webhook")
    with (
        httpx.Client(
            transport=httpx.MockTransport(lambda _: httpx.Response(200, stream=httpx.ByteStream(picture())))
        ) as files,
        opened_resources(ledger, provider := EchoProvider(), tmp_path) as resources,
        pytest.raises(Waiting),
    ):
        ours = replace(resources, files=files, providers=Providers({"fal": lambda: provider}))
        registry.call(call(ours, PICTURE))
    assert [(each.step, each.attempt) for each in ledger.requests.of_job(PICTURE)] == [
        ("generate", 1),
        ("1-upscale", 1),
    ]
    assert [asset.ref for asset in ledger.assets.of_job(PICTURE)] == [row.ref]
    assert len(provider.sent) == 1


def test_a_side_effect_is_not_repeated_and_a_sleep_goes_on(ledger_url: str, tmp_path: Path) -> None:
    """By their names: the account was made, the welcome goes out, and the profile is waited for."""
    sent: list[str] = []
    with (
        closing(Ledger(ledger_url, clock=lambda: THEN + timedelta(days=2))) as ledger,
        opened_resources(ledger, EchoProvider(), tmp_path) as resources,
        patch.object(onboard_user, "_tell", lambda who, news, key: sent.append(key)),
        pytest.raises(Waiting),
    ):
        registry.call(call(resources, NEWCOMER))
    assert sent == [f"{NEWCOMER}/welcome"]
    with closing(Ledger(ledger_url)) as ledger:
        assert {wait.name: wait.status for wait in ledger.waits.of_job(NEWCOMER)}["profile"] == "open"


def results() -> ResultStore:
    return ResultStore(result_storage=LocalFileSystem(basepath=str(FIXTURES / "results")), serializer=JSONSerializer())


def test_a_finished_task_is_found_under_its_key() -> None:
    """Job, step and attempt, as then: it is not carried out again, and its result is read."""
    policy = tasks.submit.cache_policy
    assert isinstance(policy, CachePolicy)
    of_the_task: Any = SimpleNamespace(task=tasks.submit)
    key = policy.compute_key(of_the_task, {"key": f"{PICTURE}/generate/1"}, {})
    assert key is not None and results().read(key).result == "fal-1"


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("failed-flow", Permanent, "The provider refused it."),
        ("failed-manifest", ManifestError, "rows"),
        ("cancelled", Cancelled, "The job was cancelled."),
    ],
)
def test_an_error_on_record_is_read_as_what_it_is_now(name: str, kind: type[Exception], says: str) -> None:
    """A parent that was suspended, too, raises it as its own."""
    error = results().read(name).result
    assert (type(error), str(error)) == (kind, says)
