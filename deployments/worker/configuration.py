"""How a run is to be started: its job variables over the pool's template, and where its code is.

Deployments and flows are read once and kept for a few seconds, so that a burst of runs does not ask for the same again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import Flow, FlowRun, WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.settings import Settings, get_current_settings
from prefect.workers.base import BaseJobConfiguration, BaseVariables
from pydantic import Field, field_validator

from darkroom.deployments.worker.messages import Known, MediaFolder
from darkroom.media.store import is_folder, store_block_slug
from darkroom.orchestrator.project_file import PROJECT, module_name, users_project
from darkroom.timing import UNSCALED, Timing

SET_FOLDER = "prefect.deployments.steps.set_working_directory"

STREAM_OUTPUT = Field(default=True, description="What the run prints goes to the worker's own output.")
WORKING_DIR = Field(
    default=None,
    title="Working Directory",
    description="The folder the run starts in. Empty: where its code is, or a temporary folder.",
)


class WarmVariables(BaseVariables):
    stream_output: bool = STREAM_OUTPUT
    working_dir: Path | None = WORKING_DIR


class WarmJobConfiguration(BaseJobConfiguration):
    stream_output: bool = STREAM_OUTPUT
    working_dir: Path | None = WORKING_DIR

    @field_validator("command")
    @classmethod
    def _no_command(cls, command: str | None) -> str | None:
        if command:
            raise ValueError("`command`: a warm worker starts none. Leave it empty, or use a pool of type `process`.")
        return command

    # Of which settings, and what they are: by default each run has them named anew, half of what it costs the worker.
    _named_settings: ClassVar[tuple[Settings, dict[str, str]] | None] = None

    @classmethod
    def _base_environment(cls) -> dict[str, str]:
        """Return the worker's settings as variables, named once for as long as they are the same."""
        settings = get_current_settings()
        if cls._named_settings is None or cls._named_settings[0] is not settings:
            cls._named_settings = settings, super()._base_environment()
        return dict(cls._named_settings[1])

    def prepare_for_flow_run(self, flow_run: FlowRun, *arguments: Any, **named: Any) -> None:
        """Set the environment as a process of the worker would inherit it.

        The worker's environment, and over it the run's own.
        """
        own = dict(self.env)
        super().prepare_for_flow_run(flow_run, *arguments, **named)
        merged = {**self.env, **os.environ, **own}
        self.env = {name: value for name, value in merged.items() if value is not None}
        # Prefect has put the command there that would start an interpreter for the run.
        self.command = None

    @property
    def environment(self) -> dict[str, str]:
        return {name: value for name, value in self.env.items() if value is not None}


T = TypeVar("T")


@dataclass(frozen=True)
class _Read(Generic[T]):
    value: T
    at: float = field(default_factory=time.monotonic)

    def since(self, age: timedelta) -> bool:
        return time.monotonic() - self.at < age.total_seconds()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A run's flow and deployment, as Prefect has them."""

    flow: Flow
    deployment: DeploymentResponse | None
    result_storage: UUID | None
    media_folder: MediaFolder | None = None

    async def configuration(
        self, flow_run: FlowRun, *, client: PrefectClient, work_pool: WorkPool, worker_name: str, worker_id: UUID | None
    ) -> WarmJobConfiguration:
        # A copy: Prefect puts the run's own variables into the deployment's.
        deployment = self.deployment and self.deployment.model_copy(deep=True)
        return await WarmJobConfiguration.resolve_for_flow_run(
            flow_run,
            client=_WithFlow(client, self.flow),  # type: ignore[arg-type]
            work_pool=work_pool,
            worker_name=worker_name,
            worker_id=worker_id,
            deployment=deployment,
        )

    def known(self, work_pool: WorkPool) -> Known:
        return Known(
            api_flow=self.flow,
            deployment=self.deployment,
            work_pool=work_pool,
            result_storage=self.result_storage,
            media_folder=self.media_folder,
        )

    def preloaded(self) -> tuple[str, Path] | None:
        """`module:name` of its flow and the project's folder, if its code is what the forkserver has imported."""
        if self.deployment is None or not self.deployment.entrypoint:
            return None
        folder = _folder(self.deployment.pull_steps or [])
        file, _, name = self.deployment.entrypoint.partition(":")
        if folder is None or not name or (project := folder.resolve()) not in (PROJECT, users_project()):
            return None
        module = module_name(project, file)
        return (f"{module}:{name}", project) if module else None


class Recipes:
    """So long as `timing` says what was edited may still have its old effect."""

    def __init__(self, *, timing: Timing = UNSCALED, media_store: str | None = None) -> None:
        """`media_store`: as the settings name it; None where the runs are not ours."""
        self._timing = timing
        self._media_slug = store_block_slug(media_store) if media_store else None
        self._flows: dict[UUID, Flow] = {}
        self._deployments: dict[UUID, _Read[DeploymentResponse]] = {}
        self._result_storage: _Read[UUID | None] | None = None
        self._media_folder: _Read[MediaFolder | None] | None = None

    async def of(self, flow_run: FlowRun, client: PrefectClient) -> Recipe:
        """Return what it takes to run the flow. Raise ObjectNotFound if its deployment does not exist any more."""
        return Recipe(
            flow=await self._flow(flow_run.flow_id, client),
            deployment=await self._deployment(flow_run.deployment_id, client) if flow_run.deployment_id else None,
            result_storage=await self._storage(client),
            media_folder=await self._folder(client),
        )

    def forget(self) -> None:
        self._deployments.clear()
        self._result_storage = None
        self._media_folder = None

    async def _flow(self, flow_id: UUID, client: PrefectClient) -> Flow:
        if flow_id not in self._flows:
            self._flows[flow_id] = await client.read_flow(flow_id)
        return self._flows[flow_id]

    async def _deployment(self, deployment_id: UUID, client: PrefectClient) -> DeploymentResponse:
        known = self._deployments.get(deployment_id)
        if known is None or not known.since(self._timing.deployment_kept):
            known = self._deployments[deployment_id] = _Read(await client.read_deployment(deployment_id))
        return known.value

    async def _storage(self, client: PrefectClient) -> UUID | None:
        if self._result_storage is None or not self._result_storage.since(self._timing.result_storage_kept):
            server = await client.read_server_default_result_storage()
            self._result_storage = _Read(server.default_result_storage_block_id)
        return self._result_storage.value

    async def _folder(self, client: PrefectClient) -> MediaFolder | None:
        """Return the media store, if that is a folder."""
        # Another kind's block may have keys, so each run reads that itself.
        if self._media_slug is None or not is_folder(self._media_slug):
            return None
        if self._media_folder is None or not self._media_folder.since(self._timing.blocks_read):
            kind, _, name = self._media_slug.partition("/")
            try:
                block = await client.read_block_document_by_name(name, kind)
            except ObjectNotFound:  # the run finds out, and says so
                return None
            self._media_folder = _Read(MediaFolder(slug=self._media_slug, basepath=block.data.get("basepath")))
        return self._media_folder.value


class _WithFlow:
    """Prefect's client, with the flow at hand that it would be asked for."""

    def __init__(self, client: PrefectClient, flow: Flow) -> None:
        self._client = client
        self._flow = flow

    async def read_flow(self, flow_id: UUID) -> Flow:
        return self._flow

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def _folder(pull_steps: Sequence[Mapping[str, Any]]) -> Path | None:
    """Return where the code is, if all there is to do is to go there."""
    if len(pull_steps) != 1 or SET_FOLDER not in pull_steps[0]:
        return None
    return Path(pull_steps[0][SET_FOLDER]["directory"])
