"""What `darkroom up` was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

LOOPBACK = "127.0.0.1"


class Provider(StrEnum):
    SIMULATED = "simulated"  # a fal of our own on this machine: nothing is paid
    LIVE = "live"  # whatever answers for fal's addresses, with FAL_KEY


@dataclass(frozen=True, kw_only=True)
class StackOptions:
    home: Path
    provider: Provider = Provider.SIMULATED
    port: int = 8700
    prefect_port: int = 4200
    simulator_port: int = 9100
    latency_seconds: float = 2.0

    @property
    def gateway_url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def prefect_url(self) -> str:
        return f"http://{LOOPBACK}:{self.prefect_port}"

    @property
    def ports(self) -> dict[str, int]:
        """By the option that chooses them."""
        simulated = {"--simulator-port": self.simulator_port} if self.provider is Provider.SIMULATED else {}
        return {"--port": self.port, "--prefect-port": self.prefect_port, **simulated}
