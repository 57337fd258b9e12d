"""The head of a request is bounded where the server reads it: over real connections, to an answer that is the same."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
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


REFUSED_BEHIND = {
    "one that takes too long": (GET, b"408"),
    "another method": (b"FOO / HTTP/1.1\r\nHost: x" + END, b"400"),
    "an address that is none": (b"GET http://[ HTTP/1.1\r\nHost: x" + END, b"400"),
    "one long header": (GET + b"\r\nA: " + b"a" * 300_000, b"431"),
    "what is long and no HTTP": (b"FOO" + b"a" * 300_000, b"400"),
}


class Impatient(BoundedHttp):
    seconds_for_head = 0.2


go_on = threading.Event()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Says that all is fine; at `/slow` it begins to, and ends once it is let go on; at `/read` it reads all first."""
    if scope["path"] == "/read":
        with suppress(ClientDisconnect):
            await Request(scope, receive).body()
    if scope["path"] != "/slow":
        await PlainTextResponse("fine")(scope, receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    await asyncio.to_thread(go_on.wait, SLOW * 10)
    await send({"type": "http.response.body", "body": b"ended"})


@pytest.fixture(scope="module", params=[BoundedHttp])
def address(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, http=request.param, log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        wait_until(lambda: server.started, what="the server")
        yield listener.getsockname()
        server.should_exit = True
        thread.join()


def answer(address: tuple[str, int], *parts: bytes) -> bytes:
    """The first that the server says."""
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


@contextmanager
def streaming(address: tuple[str, int], head: bytes = GET.replace(b"/", b"/slow", 1) + END) -> Iterator[socket.socket]:
    """A connection on which an answer has begun, and goes on."""
    go_on.clear()
    with socket.create_connection(address, timeout=SLOW * 10) as connection:
        connection.sendall(head)
        assert until(connection, b"begun").startswith(b"HTTP/1.1 200 ")
        try:
            yield connection
        finally:
            go_on.set()


def until(connection: socket.socket, last: bytes = b"") -> bytes:
    """All that the server says until it has said the last, or has closed the connection."""
    said = b""
    while not last or last not in said:
        if not (part := connection.recv(65536)):
            break
        said += part
    return said


def is_quiet(connection: socket.socket) -> bool:
    """Whether nothing is said for three times as long as a head may take."""
    return not select.select([connection], [], [], 3 * Impatient.seconds_for_head)[0]


@pytest.mark.parametrize("address", [Impatient], indirect=True)
@pytest.mark.parametrize(("head", "status"), REFUSED_BEHIND.values(), ids=REFUSED_BEHIND)
def test_what_is_refused_behind_an_answer_waits_for_its_end(
    address: tuple[str, int], head: bytes, status: bytes
) -> None:
    """Nothing of the refusal stands in the midst of a stream."""
    with streaming(address) as connection:
        connection.sendall(head)
        assert is_quiet(connection)
        go_on.set()
        assert until(connection, b"}").startswith(b"5\r\nended\r\n0\r\n\r\nHTTP/1.1 %s " % status)


@pytest.mark.parametrize("address", [Impatient], indirect=True)
def test_a_head_behind_an_answer_has_its_time_from_the_end_of_that(address: tuple[str, int]) -> None:
    """Until then nobody waits for it. Requests that are whole are answered in their order."""
    with streaming(address) as connection:
        connection.sendall(GET + END + GET)
        assert is_quiet(connection)
        go_on.set()
        assert until(connection, b"fine").startswith(b"5\r\nended\r\n0\r\n\r\nHTTP/1.1 200 ")
        connection.sendall(END)
        assert until(connection, b"fine").startswith(b"HTTP/1.1 200 ")


def test_a_body_that_breaks_is_answered_once_or_ends_its_answer(address: tuple[str, int]) -> None:
    """With 400 where nothing was said yet; else nothing more is said."""
    chunked = b"POST /%s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked" + END
    with socket.create_connection(address, timeout=SLOW * 10) as connection:
        connection.sendall(chunked % b"read" + b"no length\r\n")
        said = until(connection, b"}")
        assert said.startswith(b"HTTP/1.1 400 ") and said.count(b"HTTP/1.1 ") == 1
    with streaming(address, chunked % b"slow") as connection:
        connection.sendall(b"no length\r\n")
        assert until(connection) == b""
