"""What the worker tells a child: once what to run, and later what has become of the run outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import Flow, FlowRun, State, WorkPool
from prefect.client.schemas.responses import DeploymentResponse


class Message(Enum):
    """What a child is sent over its line while it runs."""

    GO = "go"  # the run is on record as this child's
    CANCEL = "cancel"


@dataclass(frozen=True, kw_only=True)
class Suspended:
    """The run was suspended from outside."""

    state: State[Any]


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the worker has from Prefect, so that the child need not ask."""

    api_flow: Flow
    deployment: DeploymentResponse | None
    work_pool: WorkPool
    result_storage: UUID | None  # the block that the server names as the default


@dataclass(frozen=True, kw_only=True)
class Order:
    """One attempt of a flow run.

    `flow`: `module:name` of a flow that the forkserver has imported, None to have Prefect fetch and load it.
    `hooks_for`: only run the flow's hooks for this state, because the process that should have is gone.
    """

    flow_run: FlowRun
    known: Known
    environment: Mapping[str, str]
    folder: str
    flow: str | None = None
    stream_output: bool = True
    hooks_for: State[Any] | None = None
