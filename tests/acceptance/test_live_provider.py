"""With `--provider live` the stack talks to whatever answers for fal's hosts behind `HTTPS_PROXY`.

Nothing else is set than a production set-up has: the key, the proxy, its certificates. Here the simulator, started as
a process of its own, answers for the hosts.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from running import Stack, free_port, free_ports, running_stack
from support import wait_until

from deployments.simulator.environment import client_environment

UPLOAD = """
from blocks.fal import FalAccount
with FalAccount.load("default").client() as fal:
    print(fal.upload(b"a file", content_type="text/plain", file_name="file.txt"))
"""


@contextmanager
def _provider(home: Path, port: int) -> Iterator[None]:
    command = [sys.executable, "-m", "deployments.simulator", "--port", str(port), "--home", str(home)]
    process = subprocess.Popen([*command, "--latency", "0.3"], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: _answers(port), timeout=20, every=0.1, what="the provider")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/_sim/health").status_code == 200
    except httpx.TransportError:
        return False


def _upload(stack: Stack) -> str:
    return stack.command(sys.executable, "-c", UPLOAD).stdout.strip()


def test_a_proxy_that_answers_for_fal_is_all_it_takes(tmp_path: Path) -> None:
    """Submit, webhook (JWKS), file and upload go to production addresses, through the proxy."""
    ports = free_ports() | {"simulator-port": free_port()}
    with _provider(tmp_path / "provider", ports["simulator-port"]):
        proxied = client_environment(port=ports["simulator-port"], home=tmp_path / "provider", base=os.environ)
        environment = {name: proxied[name] for name in ("FAL_KEY", "HTTPS_PROXY", "SSL_CERT_FILE", "NO_PROXY")}
        public = {"DARKROOM_PUBLIC_URL": f"http://127.0.0.1:{ports['port']}"}
        with running_stack(tmp_path / "home", "--provider", "live", ports=ports, **environment, **public) as stack:
            job = stack.ended(stack.order("a fox behind a proxy"))
            assert job["status"] == "completed", job
            assert job["requests"][0]["delivered_via"] == "webhook"
            assert _upload(stack).startswith("https://v3.fal.media/")
            assert not (stack.home / "run" / "simulator.pid").exists()
