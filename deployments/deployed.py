"""What was deployed last, so that a start of the same code need not deploy it again.

Prefect keeps, in its own variable, by which code the deployments were written, and how they looked then. Deploying
imports Prefect and every flow, for the schemas of their parameters; to see that nothing has changed is two calls. What
a person has changed or deleted since looks otherwise, and is written again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import darkroom
from darkroom.orchestrator.api import PrefectApi
from darkroom.orchestrator.project_file import PROJECT, project_files, users_project
from darkroom.timing import Timing

VARIABLE = "darkroom_deployed"
# The schemas of parameters are made of these, by these. In an installation all of them are inside the library.
LIBRARY = Path(darkroom.__file__).parent
BESIDE = ("blocks", "flows", "deployments")
PACKAGES = ("prefect", "pydantic")
# What a deployment is, less what the server changes by itself.
LASTING = (
    "concurrency_limit",
    "concurrency_options",
    "description",
    "enforce_parameter_schema",
    "entrypoint",
    "global_concurrency_limit",
    "id",
    "job_variables",
    "name",
    "parameter_openapi_schema",
    "parameters",
    "path",
    "paused",
    "pull_steps",
    "schedules",
    "tags",
    "version",
    "work_pool_name",
    "work_queue_name",
)
OF_A_SCHEDULE = ("active", "max_scheduled_runs", "parameters", "schedule", "slug")


def deployed_as_this_code(api: PrefectApi, *, timing: Timing) -> bool:
    """Return whether this code was the last to deploy. It says nothing of what has become of it since."""
    return _noted(api).get("code") == code_hash(timing=timing)


def ensure_deployed(api: PrefectApi, *, timing: Timing, same_code: bool) -> list[str]:
    """Deploy the file, unless this code has done so and all is as it was. Return the names, as `flow/deployment`."""
    noted = _noted(api)
    names = noted.get("names")
    if same_code and names and noted.get("deployments") == _appearance(api, names):
        return list(names)
    from darkroom.deployments.prefect_yaml import deploy_all

    names = deploy_all(timing=timing)
    _note(api, {"code": code_hash(timing=timing), "names": names, "deployments": _appearance(api, names)})
    return names


def code_hash(*, timing: Timing) -> str:
    """Hash all that a deployment is made of: the files, the code, where it lies, what reads it, and by which times."""
    digest = hashlib.sha256()
    times = str(timing.reconcile_every)  # all that a deployment has of them (`prefect_yaml.py`)
    for word in (sys.version, times, *(f"{name}={version(name)}" for name in PACKAGES)):
        digest.update(word.encode() + b"\0")
    for source in (*project_files(), *sorted(set(_sources()))):
        # With its path, which deployments have in them.
        digest.update(str(source).encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()


def _sources() -> Iterator[Path]:
    """Yield the code of Darkroom and of the user's project."""
    for ours in (LIBRARY, *(PROJECT / name for name in BESIDE)):
        yield from ours.rglob("*.py")
    # Without a project nothing is walked: a file has nothing below it.
    for folder, below, names in os.walk(users_project() or os.devnull):
        # What is installed in the project's folder is none of its code.
        if "pyvenv.cfg" in names:
            below.clear()
            continue
        below[:] = [name for name in below if not name.startswith(".")]
        yield from (Path(folder, name) for name in names if name.endswith(".py"))


def _appearance(api: PrefectApi, names: Sequence[str]) -> str:
    """Hash the deployments of those names as they stand. The hash is another where one is missing."""
    wanted = {
        "deployments": {"name": {"any_": sorted({name.partition("/")[2] for name in names})}},
        "sort": "CREATED_DESC",
    }
    found = [_lasting(each) for each in api.all_of("/deployments/filter", wanted)]
    found.sort(key=lambda each: str(each["id"]))
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def _lasting(deployment: Mapping[str, Any]) -> dict[str, Any]:
    schedules = [{name: each.get(name) for name in OF_A_SCHEDULE} for each in deployment.get("schedules") or ()]
    schedules.sort(key=lambda each: str(each["slug"]))
    return {name: deployment.get(name) for name in LASTING} | {"schedules": schedules}


def _noted(api: PrefectApi) -> Mapping[str, Any]:
    variable = api.call("GET", f"/variables/name/{VARIABLE}", absent=True)
    value = variable and variable["value"]
    return value if isinstance(value, dict) else {}


def _note(api: PrefectApi, value: Mapping[str, Any]) -> None:
    if api.call("PATCH", f"/variables/name/{VARIABLE}", json={"value": value}, absent=True) is None:
        api.call("POST", "/variables/", json={"name": VARIABLE, "value": value, "tags": ["darkroom"]}, conflict=True)
