"""The simulated provider of all contestants: one process, pictures drawn before, and its own book of what it did."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from support import free_port, wait_until

from darkroom.deployments.simulator.environment import API_KEY, USER_ID, client_environment

# What limits a workload is Darkroom's ledger or the pool's semaphore, never the provider's own line.
NO_LIMIT = 1000
QUICK = ("--latency", "1", "--concurrency", str(NO_LIMIT), "--fixed-pictures")


@dataclass(frozen=True, kw_only=True)
class Provider:
    port: int
    pid: int
    home: Path
    http: httpx.Client

    def environment(self) -> dict[str, str]:
        """For whatever has to find it under fal's own addresses."""
        reach = client_environment(port=self.port, home=self.home, base=os.environ)
        return {**reach, "FAL_KEY": API_KEY, "DARKROOM_FAL_USER_ID": USER_ID}

    def takes(self, *, seconds: float) -> None:
        """For a picture, from now on."""
        self.rules({"latency": seconds})

    def rules(self, *rules: dict[str, Any]) -> None:
        """In place of those there were."""
        self.http.delete("/_sim/rules").raise_for_status()
        for rule in rules:
            self.http.post("/_sim/rules", json=rule).raise_for_status()

    def webhooks_sent(self, prompt: str) -> dict[str, datetime]:
        """Of the requests with that in their prompt: id → when its first webhook left."""
        return {
            request["request_id"]: datetime.fromisoformat(request["webhooks"][0]["at"])
            for request in self.requests(prompt)
            if request["webhooks"]
        }

    def requests(self, prompt: str) -> list[dict[str, Any]]:
        answer = self.http.get("/_sim/requests", params={"match": prompt}).raise_for_status().json()
        return list(answer["requests"] if isinstance(answer, dict) else answer)

    def release(self, request_id: str) -> None:
        self.http.post(f"/_sim/requests/{request_id}/release").raise_for_status()


@contextmanager
def running_provider(home: Path, *options: str) -> Iterator[Provider]:
    """`options`: of the simulator, in place of those for benchmarks."""
    port = free_port()
    command = [sys.executable, "-m", "darkroom.deployments.simulator", "--home", str(home), "--port", str(port)]
    process = subprocess.Popen([*command, *(options or QUICK)], stdout=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as http:
            wait_until(lambda: _answers(http), timeout=30, every=0.1, what="the provider")
            yield Provider(port=port, pid=process.pid, home=home, http=http)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)


def _answers(http: httpx.Client) -> bool:
    try:
        return http.get("/_sim/health").is_success
    except httpx.TransportError:
        return False
