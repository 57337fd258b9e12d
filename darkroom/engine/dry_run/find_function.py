"""The code of a kind of job: its deployment's flow, found by prefect.yaml as a worker finds it, and what it drives."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from prefect import Flow
from prefect.exceptions import ParameterTypeError
from prefect.flows import load_flow_from_entrypoint
from prefect.logging.loggers import disable_logger
from prefect.utilities.callables import get_call_parameters

from darkroom.engine.calls import JobFunction
from darkroom.engine.runner import Driven, asked_for_its_function
from darkroom.errors import BadInput, NeedsHuman
from darkroom.orchestrator.project_file import PREFECT_YAML, Entry, read_entries


def job_function(kind: str, deployment: str, parameters: Mapping[str, Any]) -> JobFunction:
    """What the flow hands to `drive` when it is called with these parameters, which are checked as Prefect checks them.

    Raises what the flow raises before that: its own refusal of them; `NeedsHuman` where there is no such flow.
    """
    flow = find_flow(kind, deployment)
    token = asked_for_its_function.set(True)
    try:
        flow.fn(**_checked(flow, parameters))
    except Driven as driven:
        return driven.function
    finally:
        asked_for_its_function.reset(token)
    raise NeedsHuman(f"{kind} carries no jobs: it does not call drive().", code="no_flow")


def find_flow(kind: str, deployment: str, *, file: Path = PREFECT_YAML) -> Flow[..., Any]:
    """Raises `NeedsHuman` where the file names none, or its code cannot be imported."""
    entrypoints = {(each.kind, each.name): each.entrypoint for each in _read(file)}
    if (kind, deployment) not in entrypoints:
        raise NeedsHuman(f"{file.name} has no deployment {kind}/{deployment}.", code="no_flow")
    return _load(entrypoints[kind, deployment], file.parent)


@cache
def _read(file: Path) -> tuple[Entry, ...]:
    return tuple(read_entries(Entry, file))


@cache
def _load(entrypoint: str, project: Path) -> Flow[..., Any]:
    """A module of ours is imported as such: what it shares with others, e.g. the errors, must be the same things."""
    path, _, name = entrypoint.rpartition(":")
    try:
        if Path(path).parts[0] == "flows":
            flow = getattr(importlib.import_module(".".join(("darkroom", *Path(path).with_suffix("").parts))), name)
        else:
            flow = load_flow_from_entrypoint(f"{project / path}:{name}", use_placeholder_flow=False)
    except Exception as error:
        raise NeedsHuman(f"{entrypoint} cannot be imported: {type(error).__name__}: {error}", code="no_flow") from error
    assert isinstance(flow, Flow)
    return flow


def _checked(flow: Flow[..., Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Prefect logs what it refuses, with its values: a prompt among them."""
    try:
        with disable_logger("prefect.flows"):
            return flow.validate_parameters(get_call_parameters(flow.fn, (), dict(parameters)))
    except (ParameterTypeError, TypeError) as error:
        raise BadInput(f"Its parameters are not what {flow.name} takes.", code="parameters_refused") from error
