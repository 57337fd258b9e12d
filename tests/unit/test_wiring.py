"""Everything that is found by name at run time is there: flows, deployments, schedules, commands, settings."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from prefect import Flow
from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from sqlmodel import SQLModel
from typer.testing import CliRunner

from darkroom.deployments.automations import RESUME_ON_CALLBACK
from darkroom.deployments.cli import app
from darkroom.deployments.prefect_yaml import DeploymentEntry, read_prefect_yaml
from darkroom.deployments.work_pool import QUEUES
from darkroom.errors import NeedsHuman
from darkroom.events import read_triggers
from darkroom.events.types import find_type
from darkroom.ledger import database
from darkroom.media.formats import Kind, verify
from darkroom.orchestrator import RESUME_EVENTS, WORK_POOL

PROJECT = Path(__file__).parents[2]
FLOW_FILES = sorted(path for path in (PROJECT / "flows").glob("*.py") if path.name != "__init__.py")
ENTRIES = read_prefect_yaml()
DEPLOYED = [
    "daily-report/weekdays",
    "edit-image/on-demand",
    "generate-image/on-demand",
    "import-images/on-demand",
    "make-debate/on-demand",
    "onboard-user/on-demand",
    "process-order/on-demand",
    "process-upload/on-demand",
    "reconcile/every-minute",
    "render-batch/on-demand",
    "replay/on-demand",
    "run-model/on-demand",
    "sync-models/daily",
    "sync-profile/debounced",
    "train-lora/on-demand",
]  # what users, the gateway and docs name
COMMANDS = [
    *("up", "env", "demo", "gateway", "provision"),
    *("generate", "upload", "jobs", "status", "why", "cancel", "replay", "dead"),
    *("run", "model", "user", "key", "plan", "account", "wait", "start"),
]


def flow_of(entry: DeploymentEntry) -> Flow[..., object]:
    return load_flow_from_entrypoint(str(PROJECT / entry.entrypoint))


@pytest.mark.parametrize("file", FLOW_FILES, ids=lambda file: file.stem)
def test_a_flow_file_imports_and_holds_a_flow(file: Path) -> None:
    """One flow per file, named like the file."""
    module = importlib.import_module(f"darkroom.flows.{file.stem}")
    flow = getattr(module, file.stem)
    assert isinstance(flow, Flow)
    assert flow.name == file.stem.replace("_", "-")


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.entrypoint)
def test_a_deployment_resolves(entry: DeploymentEntry) -> None:
    """Its flow loads, its schedule parses, and its queue is one that provisioning makes."""
    flow = flow_of(entry)
    assert entry.work_pool.name == WORK_POOL
    assert entry.work_pool.work_queue_name in {None, *QUEUES}
    assert flow.retries == 0  # a retried flow forgets its pauses, and would wait again for what has come
    assert not entry.schedules or entry.missed_slots is not None, "what becomes of its missed slots is said"
    for schedule in entry.schedules:
        CronSchedule(cron=schedule.cron, timezone=schedule.timezone)


def test_the_deployments_are_those_that_others_name() -> None:
    """Names are public: users' scripts hold them."""
    assert sorted(f"{flow_of(entry).name}/{entry.name}" for entry in ENTRIES) == DEPLOYED


def test_prefect_yaml_has_nothing_that_provision_would_leave_out() -> None:
    """`prefect deploy` understands more than we do; what only one of the two understands makes them differ."""
    assert set(yaml.safe_load((PROJECT / "prefect.yaml").read_text())) == {"name", "deployments"}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.entrypoint)
def test_every_parameter_explains_itself(entry: DeploymentEntry) -> None:
    """Parameters are the form in the UI: each has a title and a description, and none is a secret."""
    for name, field in parameter_schema(flow_of(entry)).properties.items():
        assert field.get("title"), name
        assert field.get("description"), name
        assert not {"key", "token", "secret", "password"} & set(name.split("_"))


def test_every_trigger_is_understood() -> None:
    """Its event is registered, its expressions compile, and it gives its flow what that takes and needs."""
    flows = {f"{flow_of(entry).name}/{entry.name}": flow_of(entry) for entry in ENTRIES if entry.starts_on}
    triggers = read_triggers()
    assert {trigger.deployment for trigger in triggers} == set(flows)
    for trigger in triggers:
        _, data = find_type(trigger.event, trigger.v)
        schema = parameter_schema(flows[trigger.deployment])
        given = set(data.model_fields if trigger.parameters is None else trigger.parameters)
        if trigger.control is not None and trigger.control.terms.takes_all:
            given = {"events"}
        assert set(schema.required) <= given <= set(schema.properties), trigger.deployment


def test_the_automation_waits_for_what_is_sent() -> None:
    """Each event that wakes a run is expected, and one event is one resume."""
    trigger = RESUME_ON_CALLBACK["trigger"]
    assert set(trigger["expect"]) == set(RESUME_EVENTS)
    assert (trigger["threshold"], trigger["within"]) == (1, 0)


def test_the_console_script_is_there() -> None:
    """`darkroom` is what pyproject says it is."""
    script = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["scripts"]["darkroom"]
    module, _, name = script.partition(":")
    assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    """`--help` works without a stack, a ledger or Prefect."""
    done = CliRunner().invoke(app, [command, "--help"])
    assert done.exit_code == 0
    assert done.output.strip()


@pytest.mark.parametrize(
    "module",
    [
        *(
            "darkroom.deployments.gateway.app",
            "darkroom.deployments.cli",
            "darkroom.deployments.provision",
            "darkroom.deployments.stack.supervisor",
        ),
        "darkroom.deployments.simulator.server",
    ],
)
def test_a_part_starts_without_importing_prefect(module: str) -> None:
    """It takes a second, and the clients of the other providers nearly as long: whoever needs them imports them."""
    heavy = ["prefect", "prefect_aws", "google.genai", "elevenlabs.client", "mux_python", "alembic"]
    program = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"


def test_a_simulator_of_pictures_does_not_load_the_film_library() -> None:
    """It takes 17 MB, and only films, speech and Mux need it."""
    code = "import sys, darkroom.deployments.simulator.__main__; sys.exit('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_the_parts_of_a_stack_share_is_none_of_prefects() -> None:
    """It reads its settings as it is imported, and its server's are others than a worker's. And no thread is begun."""
    program = (
        "import sys, threading; from darkroom.deployments.stack.forks import import_shared; import_shared(); "
        "print(threading.active_count(), [name for name in sys.modules if name.partition('.')[0] == 'prefect'])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "1 []\n"


def test_the_commands_help_needs_nothing_of_what_they_do() -> None:
    """It is there in a fifth of a second."""
    heavy = ["pydantic", "sqlalchemy", "httpx", "psycopg", "fastapi", "yaml"]
    program = f"import sys, darkroom.deployments.cli; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"


def test_rows_can_be_read_in_a_process_that_has_opened_no_session() -> None:
    """The ORM finishes its classes with its first session, and a gateway may never open one."""
    program = "from darkroom.ledger import Run; print(Run.model_construct(id='run_1').id)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "run_1\n"


def test_every_package_is_in_the_wheel() -> None:
    """setuptools is told them one by one, as they lie in four folders."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    folders = {name: PROJECT / place for name, place in project["tool"]["setuptools"]["package-dir"].items()}
    there = {
        ".".join((name, *file.parent.relative_to(folder).parts))
        for name, folder in folders.items()
        for file in folder.rglob("*.py")
        if "new_project" not in file.parts
    }
    assert set(project["tool"]["setuptools"]["packages"]) == there


def test_what_is_not_installed_is_told_with_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures need neither FFmpeg nor PyAV; a film is refused with what it takes."""
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "darkroom.media.formats.films", raising=False)
    monkeypatch.delattr("darkroom.media.formats.films", raising=False)  # as the package has it, once it was imported
    with pytest.raises(NeedsHuman, match=r"pip install 'darkroom-media\[film\]'"):
        verify(b"a film", Kind.VIDEO)


def test_no_statement_takes_all_columns_that_a_table_may_come_to_have() -> None:
    """What is prepared breaks when a migration adds one, in every process of before that runs on."""
    of_tables = "|".join(SQLModel.metadata.tables)
    star = re.compile(rf'\b({of_tables})\.\*|\*\s+FROM "?({of_tables})\b|SELECT \*,')
    assert [name for name in database.queries() if star.search(database.queries()[name])] == []
