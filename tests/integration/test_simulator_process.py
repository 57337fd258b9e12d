"""The simulator as a process: starting, stopping, what lasts, and the door for the providers' hosts alone."""

from __future__ import annotations

import json
import socket
import ssl
from datetime import timedelta
from pathlib import Path
from typing import Any

import certifi
import fal_client
import httpx
import pytest
from media_files import film
from simulated_fal import Receiver, SimulatedFal, fal_client_with, receiving, start_simulator
from support import free_port, wait_until

from darkroom.deployments.simulator.environment import client_environment
from darkroom.deployments.simulator.keys import MUX_TOKEN_ID, MUX_TOKEN_SECRET
from darkroom.providers.fal import Fal

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


def test_an_upload_goes_on_with_the_token_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client holds it for an hour, and is told of no restart."""
    port = str(free_port())
    simulator = start_simulator(tmp_path, "--port", port)
    for name, value in simulator.environment().items():
        monkeypatch.setenv(name, value)
    with Fal("sim:key") as fal:
        for content in (b"before", b"after"):
            url = fal.upload(content, content_type="text/plain", file_name="x.txt", lifetime=timedelta(hours=1))
            assert httpx.get(url).content == content
            simulator.stop()
            simulator = start_simulator(tmp_path, "--port", port)
    simulator.stop()


def test_a_begun_upload_goes_on_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In parts, which come in any order, and by an address that serves once; what is no id finds none."""
    options = ("--port", str(free_port()))
    simulator = start_simulator(tmp_path, *options)
    for name, value in simulator.environment().items():
        monkeypatch.setenv(name, value)
    rest, files = "https://rest.fal.ai/storage", "https://v3.fal.media"
    with httpx.Client(headers={"Authorization": "Key sim:key"}) as fal:
        token = {"Authorization": f"Bearer {fal.post(f'{rest}/auth/token', json={}).json()['token']}"}
        whole = fal.post(f"{rest}/upload/initiate", json={"file_name": "a.txt", "content_type": "text/x-a"}).json()
        head = token | {"Content-Type": "text/x-b", "X-Fal-File-Name": "b.txt"}
        in_parts = fal.post(f"{files}/files/upload/multipart", headers=head).json()
        parts = f"{in_parts['access_url']}/multipart/{in_parts['uploadId']}"
        tags = {2: fal.put(f"{parts}/2", headers=token, content=b"rts").headers["etag"]}
        simulator.process.kill()
        simulator.stop()
        simulator = start_simulator(tmp_path, *options)
        tags[1] = fal.put(f"{parts}/1", headers=token, content=b"pa").headers["etag"]
        listed = {"parts": [{"partNumber": number, "etag": tag} for number, tag in tags.items()]}
        done = [fal.post(f"{parts}/complete", headers=token, json=listed).status_code for _ in range(2)]
        put = [httpx.put(whole["upload_url"], content=b"whole").status_code for _ in range(2)]
        assert (done, put) == ([200, 404], [200, 403])
        read = [fal.get(url) for url in (in_parts["access_url"], whole["file_url"])]
        assert [(each.content, each.headers["content-type"]) for each in read] == [
            (b"parts", "text/x-b"),
            (b"whole", "text/x-a"),
        ]
        assert fal.put(f"{files}/upload/%2e%2e", content=b"x").status_code in (403, 404)
    assert not [file for file in (tmp_path / "begun-uploads").rglob("*") if file.is_file()]
    simulator.stop()


def test_what_was_hidden_or_erased_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One who was killed knows who may read what, what was signed, and what its accounts have set."""
    port = str(free_port())
    options = ("--port", port, "--latency", "0", "--fixed-pictures")  # of one picture, whose bytes all files share
    simulator = start_simulator(tmp_path, *options)
    for name, value in simulator.environment().items():
        monkeypatch.setenv(name, value)
    platform = httpx.Client(base_url="https://api.fal.ai/v1", headers={"Authorization": "Key sim:admin"})
    with fal_client_with("sim:key") as fal, platform:
        hidden, erased, shown = (fal.submit(DEV, {"prompt": "a fox"}) for _ in range(3))
        urls = [each.get()["images"][0]["url"] for each in (hidden, erased, shown)]
        query, settings = {"url": urls[0]}, {"initial_acl": {"default": "forbid"}}
        platform.put("/storage/files/acl", params=query, json={"default": "hide"}).raise_for_status()
        urls.append(platform.post("/storage/files/sign", params=query, json={}).json()["signed_url"])
        platform.delete(f"/models/requests/{erased.request_id}/payloads").raise_for_status()
        platform.put("/storage/settings", json=settings).raise_for_status()
        for _ in range(2):  # the second reads what the first has written anew
            simulator.process.kill()
            simulator.stop()
            simulator = start_simulator(tmp_path, *options)
        assert [platform.get(url).status_code for url in urls] == [404, 404, 200, 200]
        assert platform.get(fal.upload(b"mine", "text/plain")).status_code == 403
        simulator.operator.delete("/platform").raise_for_status()
        simulator.stop()
        simulator = start_simulator(tmp_path, *options)
        assert platform.get("/storage/settings").json()["initial_acl"] is None
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
        wait_until(lambda: "video.asset.ready" in kinds_of(receiver))
        simulator.stop()


def test_mux_tells_what_it_could_not_tell_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is back both webhooks come that were due, that of the upload and that of its film, and each once."""
    with receiving() as receiver:
        options = ("--port", str(free_port()), "--mux-webhook-url", receiver.url, "--webhook-retry", "600")
        simulator = start_simulator(tmp_path, *options, "--latency", "0")
        for name, value in simulator.environment().items():
            monkeypatch.setenv(name, value)
        receiver.answers = [500, 500]
        with httpx.Client(auth=(MUX_TOKEN_ID, MUX_TOKEN_SECRET), base_url=_MUX) as mux:
            sent = mux.post("/uploads", json={}).raise_for_status().json()["data"]
        httpx.put(sent["url"], content=film(seconds=0.5)).raise_for_status()
        receiver.wait_for(2)
        for received in (4, 4):
            simulator.process.kill()
            simulator.stop()
            simulator = start_simulator(tmp_path, *options)
            receiver.wait_for(received)
            wait_until(lambda: all(line["announced"] and line["upload_announced"] for line in book_of_mux(tmp_path)))
        simulator.stop()
        assert sorted(kinds_of(receiver)) == ["video.asset.ready"] * 2 + ["video.upload.asset_created"] * 2


def kinds_of(receiver: Receiver) -> list[str]:
    return [json.loads(each.body)["type"] for each in receiver.received]


def book_of_mux(home: Path) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = json.loads((home / "mux" / "book.json").read_text())["assets"]
    return lines


def picture(http: httpx.Client, request: fal_client.SyncRequestHandle) -> bytes:
    return http.get(request.get()["images"][0]["url"]).raise_for_status().content


def test_its_secrets_are_for_its_owner_only(simulator: SimulatedFal) -> None:
    """Whoever reads them could speak for the providers to processes that trust the simulator."""
    (authority,) = simulator.home.glob("authority-*.pem")
    names = ("webhook-keys.pem", "mux-webhook-secret", "upload-token-secret")
    for secret in (authority, *(simulator.home / name for name in names)):
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
