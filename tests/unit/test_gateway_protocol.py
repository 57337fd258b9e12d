"""The head of a request is bounded where the server reads it: over real connections, to an answer that is the same."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from support import SLOW, wait_until

from darkroom.deployments.gateway.protocol import MOST_BYTES, MOST_HEADERS, BoundedHttp

END = b"\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: x"
LARGE = {
    "one long header": GET + b"\r\nA: " + b"a" * 1_000_000,
    "one long header without an end": GET + b"\r\nA: " + b"a" * 300_000,
    "many headers": GET + b"".join(b"\r\nA%d: a" % n for n in range(10_000)) + END,
    "a few headers too many": GET + b"\r\nA: a" * (MOST_HEADERS + 1) + END,
    "a few bytes too many": GET + b"\r\nA: " + b"a" * MOST_BYTES + END,
    "a long address": b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1" + END,
}
NO_HTTP = {
    "another method": b"FOO / HTTP/1.1\r\nHost: x" + END,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00",
    "a header without a name": GET + b"\r\n: a" + END,
    "a length without end": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5000 + END,
    "a length that is none": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1" + END,
}


class Impatient(BoundedHttp):
    seconds_for_head = 0.2


@pytest.fixture(scope="module", params=[BoundedHttp])
def address(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(PlainTextResponse("fine"), http=request.param, log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        wait_until(lambda: server.started, what="the server")
        yield listener.getsockname()
        server.should_exit = True
        thread.join()


def answer(address: tuple[str, int], *parts: bytes) -> bytes:
    """All that the server says until it ends the connection, or the first that it says."""
    with socket.create_connection(address, timeout=SLOW * 10) as connection:
        for part in parts:
            connection.sendall(part)
        return connection.recv(65536)


@pytest.mark.parametrize("head", LARGE.values(), ids=LARGE)
def test_a_head_past_its_bounds_is_answered_with_431(address: tuple[str, int], head: bytes) -> None:
    """By a problem document, although its end has not come yet, and the connection ends."""
    said = answer(address, head)

    assert said.startswith(b"HTTP/1.1 431 ")
    assert b"connection: close" in said.lower()
    assert b"application/problem+json" in said


@pytest.mark.parametrize("head", NO_HTTP.values(), ids=NO_HTTP)
def test_what_is_no_http_is_answered_with_400(address: tuple[str, int], head: bytes) -> None:
    """By a problem document, as everything that is refused."""
    said = answer(address, head)

    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in said and b"bad-request" in said


def test_heads_within_the_bounds_are_served_one_after_the_other(address: tuple[str, int]) -> None:
    """Each request of a connection has bounds of its own, and bodies count for none."""
    with socket.create_connection(address, timeout=SLOW * 10) as connection:
        for _ in range(3):
            connection.sendall(GET + b"\r\nA: " + b"a" * (MOST_BYTES // 2) + END)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 400000" + END + b"a" * 400_000)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("address", [Impatient], indirect=True)
def test_a_head_that_takes_too_long_is_cut(address: tuple[str, int]) -> None:
    """Also of a connection that was of use before; one that says nothing at all is closed."""
    assert answer(address, GET).startswith(b"HTTP/1.1 408 ")
    assert answer(address, b"") == b""
    with socket.create_connection(address, timeout=SLOW * 10) as connection:
        connection.sendall(GET + END)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        connection.sendall(GET)
        assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")
