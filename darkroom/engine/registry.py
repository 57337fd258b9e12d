"""The pipelines of this installation, by the kind of their jobs: ours, the project's, those of installed packages."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from darkroom.engine.job import Job
from darkroom.errors import NeedsHuman
from darkroom.orchestrator.project_file import import_flows
from darkroom.order import Order

AnOrder = TypeVar("AnOrder", bound=Order)


@dataclass(frozen=True, kw_only=True)
class Pipeline(Generic[AnOrder]):
    """What was decorated. `function` is called from its top whenever something it waits for has happened."""

    kind: str
    order: type[AnOrder]
    function: Callable[[Job, AnOrder], object]

    def call(self, job: Job) -> object:
        return self.function(job, self.order.read(job.parameters))


REGISTRY: dict[str, Pipeline[Any]] = {}


def call(job: Job) -> object:
    """Call the function of a job's kind."""
    return find(job.kind).call(job)


def find(kind: str) -> Pipeline[Any]:
    """Return the pipeline of this kind of jobs. Raises NeedsHuman where there is none."""
    if kind not in REGISTRY:
        broken = import_flows()  # only now: a process that has its pipeline needs no other's modules
        if kind not in REGISTRY:
            raise NeedsHuman(" ".join([f"There is no pipeline {kind}.", *broken]), code="no_flow")
    return REGISTRY[kind]


def all_pipelines() -> Mapping[str, Pipeline[Any]]:
    """Return the pipelines by kind, once every module of the project was imported; those that can be."""
    import_flows()
    return REGISTRY


def register(made: Pipeline[Any]) -> None:
    """Register a pipeline. Raise NeedsHuman where another function has the name already.

    The same file imported again takes its place.
    """
    there = REGISTRY.get(made.kind)
    if there is not None and _place(there.function) != _place(made.function):
        raise NeedsHuman(
            f"Two pipelines are called {made.kind}: {_place(there.function)} and {_place(made.function)}. Rename one.",
            code="two_pipelines",
        )
    REGISTRY[made.kind] = made


def _place(function: Callable[..., object]) -> str:
    # By whichever links it was reached.
    return f"{os.path.realpath(function.__code__.co_filename)}:{function.__qualname__}"
