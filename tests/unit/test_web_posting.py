"""What is posted to an address that a user typed: guarded as what is fetched is, against a real server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address

import httpcore
import pytest
from web_shop import Shop, open_shop

from darkroom.errors import DarkroomError, Retry
from darkroom.providers.web import Reach
from darkroom.providers.web.addresses import Address
from darkroom.providers.web.posting import Answer, WebPost

KEPT = 64


class Wire(httpcore.NetworkBackend):
    """Keeps to which addresses connections were opened; all of them lead to this machine."""

    def __init__(self) -> None:
        self.opened: list[str] = []

    def connect_tcp(self, host: str, port: int, **options: object) -> httpcore.NetworkStream:  # type: ignore[override]
        self.opened.append(host)
        return httpcore.SyncBackend().connect_tcp("127.0.0.1", port, **options)  # type: ignore[arg-type]


@pytest.fixture
def shop() -> Iterator[Shop]:
    with open_shop() as opened:
        yield opened


def send(shop: Shop, *, addresses: str = "93.184.215.14", wire: Wire | None = None, seconds: float = 20) -> Answer:
    def resolve(host: str, port: int) -> list[Address]:
        return [ip_address(each) for each in addresses.split()]

    post = WebPost(Reach.parse(f"93.184.215.14:{shop.port}"), resolve=resolve, network=wire or Wire())
    url = shop.url("/hook?key=1", host="shop.example")
    patience = timedelta(seconds=seconds)
    return post.post(url, b'{"a": 1}', headers={"webhook-id": "msg_1"}, patience=patience, max_bytes=KEPT)


def lay_out(shop: Shop, status: int, body: bytes = b"", *, length: int | None = None, **headers: str) -> list[bytes]:
    """Answer so, and return what comes in. `length`: what the answer says that it has, though it never comes."""
    posted: list[bytes] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        posted.append(handler.rfile.read(int(handler.headers["Content-Length"])))
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)
        if length is not None:
            handler.rfile.read(1)  # until the other side has gone

    shop.lay_out("/hook?key=1", answer)
    return posted


def test_it_is_posted_once_with_its_headers(shop: Shop) -> None:
    """To one of the addresses that were checked, under the host's own name."""
    posted = lay_out(shop, 204, Retry_After="7")
    wire = Wire()
    answer = send(shop, wire=wire)
    assert (answer.status, answer.text, answer.retry_after) == (204, "", timedelta(seconds=7))
    (visit,) = shop.visits
    assert (visit["host"], visit["webhook-id"]) == (f"shop.example:{shop.port}", "msg_1")
    assert posted == [b'{"a": 1}'] and wire.opened == ["93.184.215.14"]


@pytest.mark.parametrize("addresses", ["127.0.0.1", "93.184.215.14 10.0.0.7", "169.254.169.254", "::1"])
def test_a_private_address_is_not_asked(shop: Shop, addresses: str) -> None:
    """Not even where others of the name are public."""
    wire = Wire()
    with pytest.raises(DarkroomError) as caught:
        send(shop, addresses=addresses, wire=wire)
    assert caught.value.code == "private_address"
    assert wire.opened == [] and shop.visits == []


def test_a_redirect_is_an_answer(shop: Shop) -> None:
    """It leads nowhere."""
    lay_out(shop, 307, Location="http://127.0.0.1/admin")
    wire = Wire()
    assert send(shop, wire=wire).status == 307
    assert len(wire.opened) == 1


@pytest.mark.parametrize(("body", "text"), [(b"x" * 1000, "x" * KEPT), (b"a\0\xff", "a\ufffd\ufffd")])
def test_the_beginning_of_an_answer_is_kept(shop: Shop, body: bytes, text: str) -> None:
    """As a text that Postgres takes."""
    lay_out(shop, 500, body)
    assert send(shop).text == text


def test_an_answer_that_does_not_end_is_one(shop: Shop) -> None:
    """Its status has come."""
    lay_out(shop, 200, b"half", length=50)
    assert (answer := send(shop, seconds=0.3)).status == 200
    assert answer.text == "half"


def test_nobody_is_waited_for_longer_than_said(shop: Shop) -> None:
    """Who takes it and says nothing has not answered."""

    def silent(handler: BaseHTTPRequestHandler) -> None:
        handler.rfile.read(10_000)  # more than comes: until the other side has gone

    shop.lay_out("/hook?key=1", silent)
    with pytest.raises(Retry, match="did not answer in time"):
        send(shop, seconds=0.3)
