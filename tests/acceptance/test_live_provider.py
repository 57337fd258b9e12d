"""With `--provider live` the stack talks to whatever answers for fal's hosts behind `HTTPS_PROXY`.

Nothing else is set than a private network's set-up has: the key, the proxy, its certificates, a bucket, and no public
URL. Here the simulator, started as a process of its own, answers for fal's hosts, and moto's server speaks S3. That
webhooks come by such a proxy is shown by the storm of `tests/chaos/`.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from running import Stack, free_ports, running_stack
from support import SLOW, wait_until

from darkroom.deployments.simulator.environment import client_environment

UPLOAD = """
from datetime import timedelta
from darkroom.providers.fal import FalAccount
with FalAccount.load_default().client() as fal:
    print(fal.upload(b"a file", content_type="text/plain", file_name="file.txt", lifetime=timedelta(hours=1)))
"""


@contextmanager
def _provider(home: Path, port: int) -> Iterator[None]:
    command = [sys.executable, "-m", "darkroom.deployments.simulator", "--port", str(port), "--home", str(home)]
    process = subprocess.Popen([*command, "--latency", "0.3"], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: _answers(port), timeout=20, every=0.1, what="the provider")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=SLOW * 10)


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/_sim/health").status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def _bucket(name: str) -> Iterator[dict[str, str]]:
    """A bucket on a server that speaks S3, and the environment of an operator who has it."""
    from moto.server import ThreadedMotoServer  # not above, where every process of tests would import it

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        aws = {"AWS_ENDPOINT_URL_S3": f"http://{host}:{port}", "AWS_REGION": "us-east-1"}
        aws |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}
        _s3(aws).create_bucket(Bucket=name)
        yield aws
    finally:
        server.stop()


def _s3(aws: dict[str, str]) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=aws["AWS_ENDPOINT_URL_S3"],
        region_name=aws["AWS_REGION"],
        aws_access_key_id=aws["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=aws["AWS_SECRET_ACCESS_KEY"],
    )


def _upload(stack: Stack) -> str:
    return stack.command(sys.executable, "-c", UPLOAD).stdout.strip()


def _is_brought_by_reconcile(stack: Stack, job_id: str) -> bool:
    stack.reconcile()
    return stack.rows(job_id)[0].status.terminal


def _comes_by_polling(stack: Stack) -> dict[str, Any]:
    """Within the patience by the run, after it by reconcile. Return the first of the two jobs."""
    soon = stack.ended(stack.order("a fox, soon"))
    assert soon["status"] == "completed", soon
    assert [request["delivered_via"] for request in soon["requests"]] == ["poll"]
    stack.misbehave("a fox, later", hold=True)
    later_id = stack.order("a fox, later")
    stack.in_state(stack.flow_run_id(later_id), "Suspended")
    stack.release("a fox, later")
    wait_until(lambda: _is_brought_by_reconcile(stack, later_id), timeout=100, every=1, what="the picture")
    later = stack.ended(later_id)
    assert (later["status"], later["requests"][0]["delivered_via"]) == ("completed", "poll")
    assert stack.at_provider("a fox")[0]["webhook_url"] is None
    return soon


def test_a_proxy_and_a_bucket_are_all_it_takes_where_nobody_reaches_us(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Submit, poll, file and upload go to production addresses, through the proxy; the file goes to S3."""
    ports = free_ports()
    with _provider(tmp_path / "provider", ports["simulator-port"]), _bucket("pictures") as aws:
        proxied = client_environment(port=ports["simulator-port"], home=tmp_path / "provider", base=os.environ)
        environment = {name: proxied[name] for name in ("FAL_KEY", "HTTPS_PROXY", "SSL_CERT_FILE", "NO_PROXY")}
        environment |= {"DARKROOM_PUBLIC_URL": "", "DARKROOM_STORE": "s3://pictures/made", "DARKROOM_PATIENCE": "3"}
        environment["DARKROOM_TIME_SCALE"] = str(pytestconfig.getoption("time_scale"))
        with running_stack(tmp_path / "home", "--provider", "live", ports=ports, **environment, **aws) as stack:
            (asset,) = _comes_by_polling(stack)["assets"]
            stored = _s3(aws).get_object(Bucket="pictures", Key=f"made/{asset['key']}")["Body"].read()
            assert hashlib.sha256(stored).hexdigest() == asset["sha256"]
            assert httpx.get(asset["url"]).content == stored
            assert _upload(stack).startswith("https://v3.fal.media/")
            assert not (stack.home / "run" / "simulator.pid").exists()
