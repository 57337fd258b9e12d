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
    """What a child is sent over its line while it runs, and what it answers when it is told to end."""

    GO = "go"  # the run is on record as this child's
    CANCEL = "cancel"
    STOP = "stop"  # the worker is ending
    PAYING = "paying"  # from the child: a paid call of its is under way, whose answer would be lost with it
    PAID = "paid"  # … and now none is


@dataclass(frozen=True, kw_only=True)
class Suspended:
    """The run was suspended from outside."""

    state: State[Any]


@dataclass(frozen=True, kw_only=True)
class MediaFolder:
    """The media store, as its block has it."""

    slug: str
    basepath: str | None


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the worker has from Prefect, so that the child need not ask."""

    api_flow: Flow
    deployment: DeploymentResponse | None
    work_pool: WorkPool
    result_storage: UUID | None  # the block that the server names as the default
    media_folder: MediaFolder | None = None  # where files are kept, if it is a folder


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
