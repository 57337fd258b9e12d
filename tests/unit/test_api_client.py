"""How commands reach a gateway, and what they say where there is no answer.

By the caller's proxies and certificates, and on this machine without any proxy.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from support import SLOW

from darkroom.clock import utc_now
from darkroom.deployments import api_client
from darkroom.deployments.api_client import ApiClient
from darkroom.deployments.cli.common import open_api
from darkroom.deployments.home import Home
from darkroom.errors import NeedsHuman

NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass
class Server:
    """Answers every call with an empty document, and what asks for a tunnel with a refusal."""

    port: int
    silent: bool = False  # until its end it answers nothing
    broken: bool = False  # it closes the connection in place of an answer
    breaks: int = 0  # so many times it does, then it answers
    over: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)  # the first lines
    keys: list[str | None] = field(default_factory=list)  # by which it knows an order again


@contextmanager
def serving(tls: SSLContext | None = None) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, b"{}")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(200, b"{}")

        def do_CONNECT(self) -> None:
            self._answer(403, b"")

        def _answer(self, status: int, body: bytes) -> None:
            server.asked.append(self.requestline)
            server.keys.append(self.headers["Idempotency-Key"])
            self.close_connection = server.broken or server.silent or len(server.asked) <= server.breaks
            if server.silent:
                server.over.wait()
            if self.close_connection:
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        if tls is not None:
            listener.socket = tls.wrap_socket(listener.socket, server_side=True)
        server = Server(listener.server_address[1])
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            listener.shutdown()
            thread.join()


def certificate(file: Path) -> SSLContext:
    """A server's context for `localhost`, by a certificate that is its own authority and lies in the file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(utc_now() - timedelta(days=1)).not_valid_after(utc_now() + timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    file.write_bytes(builder.sign(key, SHA256()).public_bytes(Encoding.PEM))
    key_file = file.with_suffix(".key")
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key_file)
    return context


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A folder without a stack, in a shell with a key and no proxies."""
    for name in (*NAMES, *map(str.lower, NAMES)):
        monkeypatch.setenv(name, "")  # so that what the code sets is taken back, too
        monkeypatch.delenv(name)
    home = Home(tmp_path / "home")
    home.prepare()
    monkeypatch.setenv("DARKROOM_HOME", str(home.path))
    monkeypatch.setenv("DARKROOM_API_KEY", "dk_1")
    return home


@pytest.fixture
def proxy() -> Iterator[Server]:
    with serving() as proxy:
        yield proxy


def test_a_gateway_elsewhere_is_reached_by_the_shells_proxy(
    home: Home, proxy: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a simulated stack lies in the folder: its own proxy leads to simulated providers alone."""
    with serving() as simulator:
        simulated = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), f"http://127.0.0.1:{simulator.port}")
        home.record_environment({"DARKROOM_LEDGER_URL": "postgresql://here/darkroom", **simulated})
        monkeypatch.setenv("DARKROOM_LEDGER_URL", "postgresql://here/darkroom")
        monkeypatch.setenv("DARKROOM_GATEWAY_URL", "https://gateway.example")
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        with open_api() as api, pytest.raises(NeedsHuman, match=r"the proxy does not lead .*403"):
            api.get("/v1/jobs")
        assert (proxy.asked, simulator.asked) == (["CONNECT gateway.example:443 HTTP/1.1"], [])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_gateway_on_this_machine_is_reached_without_a_proxy(
    home: Home, proxy: Server, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """Whichever the shell names, and whatever it excepts of them."""
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("NO_PROXY", "intranet.example")
    with serving() as gateway:
        monkeypatch.setenv("DARKROOM_GATEWAY_URL", f"http://{host}:{gateway.port}")
        with open_api() as api:
            api.get("/v1/jobs")
        assert (proxy.asked, gateway.asked) == ([], ["GET /v1/jobs HTTP/1.1"])


def test_a_gateway_is_trusted_by_the_certificates_that_the_shell_names(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not without them; a file that is none is named."""
    with serving(certificate(tmp_path / "ca.pem")) as gateway:
        monkeypatch.setenv("DARKROOM_GATEWAY_URL", f"https://localhost:{gateway.port}")
        with open_api() as api, pytest.raises(NeedsHuman):
            api.get("/v1/jobs")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        with open_api() as api:
            assert api.get("/v1/jobs") == {}
    (tmp_path / "empty.pem").touch()
    for file in ("empty.pem", "none.pem"):
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / file))
        with pytest.raises(NeedsHuman, match=f"SSL_CERT_FILE names .*{file}"):
            open_api()


@pytest.fixture
def gateway(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """One that is waited for no longer than a moment."""
    for name in ("SECONDS", "SECONDS_TO_CHANGE", "SECONDS_TO_UPLOAD"):
        monkeypatch.setattr(api_client, name, 0.2 * SLOW)
    with serving() as gateway:
        monkeypatch.setenv("DARKROOM_GATEWAY_URL", f"http://127.0.0.1:{gateway.port}")
        yield gateway


@pytest.mark.parametrize(
    ("path", "look"),
    [
        ("/v1/images", "`darkroom jobs`"),
        ("/v1/admin/dead-letters/replay", "`darkroom dead list`"),
        ("/v1/waits/wait_1/wake", "`darkroom wait list`"),
        ("/v1/admin/users/ann/rotate", "`darkroom user list`"),
        ("/v1/elsewhere", "see whether it has"),
    ],
)
@pytest.mark.parametrize(
    ("fault", "says"), [("silent", "has not answered within"), ("broken", "broke off before its answer")]
)
def test_a_change_without_an_answer_may_have_been_made(
    gateway: Server, path: str, look: str, fault: str, says: str
) -> None:
    """And the command that shows it is named: nobody is told that no gateway is there."""
    setattr(gateway, fault, True)
    with open_api() as api, pytest.raises(NeedsHuman) as told:
        api.post(path, {})
    assert gateway.asked
    assert all(part in told.value.message for part in (says, "may have done", look, "before it is sent again"))
    assert "darkroom up" not in told.value.message


@pytest.mark.parametrize("order", [ApiClient.order_image, ApiClient.order_generation])
def test_an_order_without_an_answer_is_sent_once_more_under_its_key(
    gateway: Server, order: Callable[[ApiClient, dict[str, str]], dict[str, str]]
) -> None:
    """A connection that breaks off neither loses nor doubles it; the next order has a key of its own."""
    gateway.breaks = 1
    with open_api() as api:
        assert order(api, {}) == order(api, {}) == {}
    first, again, next_one = gateway.keys
    assert first == again != next_one
    assert None not in gateway.keys


def test_an_order_is_sent_twice_at_most(gateway: Server) -> None:
    """Then it is told that it may be there, and where to look."""
    gateway.broken = True
    with open_api() as api, pytest.raises(NeedsHuman, match=r"may have done .*`darkroom jobs`"):
        api.order_image({})
    assert len(gateway.asked) == 2


@pytest.mark.parametrize("path", ["/v1/images", "/v1/admin/users"])
def test_what_has_no_key_is_sent_once(gateway: Server, path: str) -> None:
    """It could be done twice."""
    gateway.broken = True
    with open_api() as api, pytest.raises(NeedsHuman):
        api.post(path, {})
    assert len(gateway.asked) == 1


def test_an_upload_without_an_answer_may_have_been_made(gateway: Server, tmp_path: Path) -> None:
    """As any change."""
    gateway.silent = True
    (tmp_path / "a.png").write_bytes(b"a")
    with open_api() as api, pytest.raises(NeedsHuman, match="may have done"):
        api.upload(tmp_path / "a.png")


def test_a_question_without_an_answer_has_changed_nothing(gateway: Server) -> None:
    """So nothing has to be looked at."""
    gateway.silent = True
    with open_api() as api, pytest.raises(NeedsHuman, match=r"has not answered within .* nothing is changed"):
        api.get("/v1/jobs")


def test_where_no_gateway_is_there_is_told_with_the_reason(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was to be done: it is not."""
    monkeypatch.setenv("DARKROOM_GATEWAY_URL", "http://ann:hunter2@127.0.0.1:9")
    with open_api() as api, pytest.raises(NeedsHuman, match=r"no gateway answers .*refused.*GATEWAY_URL") as told:
        api.post("/v1/images", {})
    assert "hunter2" not in told.value.message
