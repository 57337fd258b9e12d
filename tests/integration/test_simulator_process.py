"""The simulator as a process: starting, stopping, what lasts, and the door for the providers' hosts alone."""

from __future__ import annotations

import json
import socket
import ssl
from pathlib import Path

import certifi
import fal_client
import httpx
import pytest
from media_files import film
from simulated_fal import SimulatedFal, fal_client_with, receiving, start_simulator
from support import free_port

from darkroom.deployments.simulator.environment import client_environment
from darkroom.deployments.simulator.keys import MUX_TOKEN_ID, MUX_TOKEN_SECRET

DEV = "fal-ai/flux/dev"
_MUX = "https://api.mux.com/video/v1"
_JWKS = "https://rest.fal.ai/.well-known/jwks.json"


def test_it_ends_cleanly_and_keeps_its_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM is exit code 0; after a restart the same authority and the same webhook keys are there."""
    identities = []
    for _ in range(2):
        simulator = start_simulator(tmp_path)
        for name, value in simulator.environment().items():
            monkeypatch.setenv(name, value)
        with httpx.Client() as client:
            identities.append(((tmp_path / "ca.pem").read_bytes(), client.get(_JWKS).json()))
            assert simulator.stop() == 0
    assert identities[0] == identities[1]


def test_one_that_was_killed_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As fal does: what ended has its result and its file, what was under way or waited ends, what was due is sent.

    And what a stop leaves is the same as what is left by SIGKILL.
    """
    port = str(free_port())
    simulator = start_simulator(tmp_path, "--port", port, "--latency", "0", "--concurrency", "1")
    for name, value in simulator.environment().items():
        monkeypatch.setenv(name, value)
    with receiving() as receiver, fal_client_with("sim:key") as fal, httpx.Client() as http:
        receiver.answers = [200, 500]
        ended = fal.submit(DEV, {"prompt": "ended"}, webhook_url=receiver.url)
        receiver.wait_for(1)
        untold = fal.submit(DEV, {"prompt": "untold"}, webhook_url=receiver.url)
        receiver.wait_for(2)
        simulator.rule(match="held", hold=True)
        held = fal.submit(DEV, {"prompt": "held"}, webhook_url=receiver.url)
        waits = fal.submit(DEV, {"prompt": "waits"}, webhook_url=receiver.url)
        before = picture(http, ended)
        for end in (simulator.process.kill, simulator.process.terminate):
            end()
            simulator.stop()
            simulator = start_simulator(tmp_path, "--port", port, "--latency", "0", "--concurrency", "1")
            assert picture(http, ended) == before
            assert [row["input"]["prompt"] for row in simulator.requests()] == ["ended", "untold", "held", "waits"]
            assert isinstance(held.status(), fal_client.InProgress) and isinstance(waits.status(), fal_client.Queued)
        simulator.release(held.request_id)
        told = [json.loads(each.body)["request_id"] for each in receiver.wait_for(5)]
        assert sorted(told[2:]) == sorted(each.request_id for each in (untold, held, waits))
        assert picture(http, waits)
    simulator.stop()


def test_mux_goes_on_where_it_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload is still waited for, and a film that was being prepared is prepared and announced once it is back."""
    port = str(free_port())
    simulator = start_simulator(tmp_path, "--port", port)
    for name, value in simulator.environment().items():
        monkeypatch.setenv(name, value)
    with receiving() as receiver, httpx.Client(auth=(MUX_TOKEN_ID, MUX_TOKEN_SECRET), base_url=_MUX) as mux:
        simulator.call_rule(provider="mux", operation="put_film", hold=True)
        sent, waiting = (mux.post("/uploads", json={}).raise_for_status().json()["data"] for _ in range(2))
        httpx.put(sent["url"], content=film(seconds=0.5)).raise_for_status()
        simulator.process.kill()
        simulator.stop()
        simulator = start_simulator(tmp_path, "--port", port, "--mux-webhook-url", receiver.url)
        assert mux.get(f"/uploads/{waiting['id']}").json()["data"]["url"] == waiting["url"]
        assert mux.get(f"/uploads/{sent['id']}").json()["data"]["status"] == "asset_created"
        (told,) = receiver.wait_for(1)
        assert json.loads(told.body)["type"] == "video.asset.ready"
    simulator.stop()


def picture(http: httpx.Client, request: fal_client.SyncRequestHandle) -> bytes:
    return http.get(request.get()["images"][0]["url"]).raise_for_status().content


def test_its_secrets_are_for_its_owner_only(simulator: SimulatedFal) -> None:
    """Whoever reads them could speak for the providers to processes that trust the simulator."""
    (authority,) = simulator.home.glob("authority-*.pem")
    for secret in (authority, simulator.home / "webhook-keys.pem", simulator.home / "mux-webhook-secret"):
        assert secret.stat().st_mode & 0o077 == 0


def test_it_is_no_proxy_to_the_world(simulator: SimulatedFal) -> None:
    """CONNECT to any other host is refused, in words that say what to do."""
    with pytest.raises(httpx.ProxyError, match=r"403 .*no proxy for example\.com.*NO_PROXY"):
        httpx.get("https://example.com")


def test_a_tunnel_is_good_for_the_host_it_was_asked_for(simulator: SimulatedFal) -> None:
    """Each host has a certificate of its own, as a client that checks names expects."""
    context = ssl.create_default_context(cafile=str(simulator.home / "ca.pem"))
    with socket.create_connection(("127.0.0.1", simulator.port)) as connection:
        connection.sendall(b"CONNECT fal.run:443 HTTP/1.1\r\nHost: fal.run:443\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
            context.wrap_socket(connection, server_hostname="queue.fal.run")


def test_a_port_in_use_is_an_error(simulator: SimulatedFal, tmp_path: Path) -> None:
    """The second one ends at once, and says why."""
    with pytest.raises(RuntimeError, match="did not start"):
        start_simulator(tmp_path, "--port", str(simulator.port))


def test_rules_are_checked_and_can_be_taken_away(simulator: SimulatedFal) -> None:
    """An unknown fault is a 422 that names it, not a rule that never does anything."""
    refused = simulator.operator.post("/rules", json={"webhook": "sometimes"})
    assert (refused.status_code, "sometimes" in refused.text) == (422, True)
    first, second = simulator.rule(match="a"), simulator.rule(match="b", times=3)
    assert simulator.operator.delete(f"/rules/{first}").status_code == 204
    assert simulator.operator.delete(f"/rules/{first}").status_code == 404
    assert [rule["id"] for rule in simulator.operator.get("/rules").json()] == [second]


def test_a_clients_environment_adds_to_what_is_there(tmp_path: Path) -> None:
    """Public authorities stay trusted, hosts that were reached directly still are, and the proxy replaces any other."""
    base = {"NO_PROXY": "intranet, 127.0.0.1", "https_proxy": "http://elsewhere:3128"}
    environment = client_environment(port=9100, home=tmp_path, base=base)
    bundle = Path(environment["SSL_CERT_FILE"]).read_bytes()
    assert Path(certifi.where()).read_bytes() in bundle
    assert (tmp_path / "ca.pem").read_bytes() in bundle
    assert environment["HTTPS_PROXY"] == environment["https_proxy"] == "http://127.0.0.1:9100"
    assert environment["NO_PROXY"].split(",") == ["127.0.0.1", "localhost", "::1", ".amazonaws.com", "intranet"]
    assert environment["FAL_KEY"] == "sim:key"


def test_a_clients_environment_can_be_made_from_itself(tmp_path: Path) -> None:
    """A process that already has it may start another: the bundle is not doubled."""
    once = client_environment(port=9100, home=tmp_path, base={})
    bundle = Path(once["SSL_CERT_FILE"]).read_bytes()
    assert client_environment(port=9100, home=tmp_path, base=once) == once
    assert Path(once["SSL_CERT_FILE"]).read_bytes() == bundle
