"""What `darkroom up` was asked for, and where its parts are then. Imports nothing: the commands' help is made of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

LOOPBACK = "127.0.0.1"


class Provider(StrEnum):
    SIMULATED = "simulated"  # our own fal on this machine: nothing is paid
    LIVE = "live"  # whatever answers for fal's addresses, with FAL_KEY


class WorkerType(StrEnum):
    WARM = "warm"  # children forked from a process that has imported it all
    PROCESS = "process"  # Prefect's own: an interpreter for each attempt, anywhere that Python runs


@dataclass(frozen=True, kw_only=True)
class StackOptions:
    home: Path
    provider: Provider = Provider.SIMULATED
    worker_type: WorkerType = WorkerType.WARM
    port: int = 8700
    prefect_port: int = 4200
    simulator_port: int = 9100
    latency_seconds: float = 2.0
    latencies_of: tuple[str, ...] = ()  # ENDPOINT=SECONDS
    new_secrets: bool = False

    @property
    def gateway_url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def prefect_url(self) -> str:
        return f"http://{LOOPBACK}:{self.prefect_port}"

    @property
    def ports(self) -> dict[str, int]:
        """Return the ports by the option that chooses them."""
        simulated = {"--simulator-port": self.simulator_port} if self.provider is Provider.SIMULATED else {}
        return {"--port": self.port, "--prefect-port": self.prefect_port, **simulated}

    def ready_message(self) -> str:
        return "\n".join(
            [
                "darkroom is ready",
                f"  API         {self.gateway_url}  (its documentation: {self.gateway_url}/docs)",
                f"  Prefect UI  {self.prefect_url}  (the auth string: PREFECT_API_AUTH_STRING in `darkroom env`)",
                f"  provider    {self.provider}",
            ]
        )
