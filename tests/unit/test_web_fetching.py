"""What is fetched from the open web, and what is not: against real servers on this machine, by names that a fake
resolver knows."""

from __future__ import annotations

import gzip
import itertools
import ssl
import threading
from collections.abc import Iterable, Iterator
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import httpcore
import pytest
from support import wait_until
from web_shop import Answer, Shop, content, dripping, in_turn, open_shop, picture, redirect, status

from darkroom.deployments.simulator.certificates import TlsContexts, ensure_authority
from darkroom.errors import DarkroomError, Park, Refused, Retry, Unverified
from darkroom.providers.web import Reach, Web
from darkroom.providers.web.addresses import Address
from darkroom.providers.web.connection import resolve

PRIVATE = "127.0.0.2"  # an address that no test allows
GOOD = picture()
MAX_BYTES = 200_000


class Names:
    """A resolver. A name with several answers gives the next one each time; every question is kept."""

    def __init__(self, **answers: str) -> None:
        self._answers = {name.replace("_", "."): itertools.cycle(given.split(";")) for name, given in answers.items()}
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> list[Address]:
        self.asked.append(host)
        if host not in self._answers:
            return resolve(host, port)
        return [ip_address(address.strip()) for address in next(self._answers[host]).split(",")]


class Wire(httpcore.NetworkBackend):
    """Keeps to which addresses connections were opened; all of them lead to this machine."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, int]] = []

    def connect_tcp(self, host: str, port: int, **options: object) -> httpcore.NetworkStream:  # type: ignore[override]
        self.opened.append((host, port))
        return httpcore.SyncBackend().connect_tcp("127.0.0.1", port, **options)  # type: ignore[arg-type]


@pytest.fixture
def shop() -> Iterator[Shop]:
    with open_shop() as opened:
        yield opened


def reach_of(shop: Shop) -> Reach:
    return Reach.parse(f"127.0.0.1:{shop.port}, 93.184.215.14:{shop.port}")


def fetch(shop: Shop, url: str, *, names: Names | None = None, wire: Wire | None = None, seconds: float = 20) -> bytes:
    web = Web(reach_of(shop), resolve=names or Names(), network=wire)
    return web.fetch(url, max_bytes=MAX_BYTES, max_pixels=1_000_000, patience=timedelta(seconds=seconds)).content


def failure(
    shop: Shop, url: str, *, names: Names | None = None, wire: Wire | None = None, seconds: float = 20
) -> DarkroomError:
    with pytest.raises(DarkroomError) as caught:
        fetch(shop, url, names=names, wire=wire, seconds=seconds)
    assert "127.0" not in caught.value.message and url not in caught.value.message
    return caught.value


def test_a_picture_comes_as_it_lies_there(shop: Shop) -> None:
    """Asked for by its name and unpacked, with nothing that says who we are; query and all."""
    url = shop.lay_out("/a/teal.jpg?size=full&s=%20x", content(GOOD), host="shop.example")
    assert fetch(shop, url, names=Names(shop_example="127.0.0.1")) == GOOD
    (visit,) = shop.visits
    assert visit["host"] == f"shop.example:{shop.port}"
    assert visit["accept-encoding"] == "identity"
    assert not {"cookie", "authorization", "referer"} & set(visit)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://shop.example/a.jpg",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "/a.jpg",
        "shop.example/a.jpg",
        "https://",
        "https:///a.jpg",
        "https://user@shop.example/a.jpg",
        "https://user:secret@shop.example/a.jpg",
        "https://shop.example:8443/a.jpg",
        "http://shop.example:22/a.jpg",
        "http://shop.example:99999/",
        "http://exa mple/",
        "http://exa%6dple/",
        "http://0177.0.0.2/",
        "http://[::1/",
        "http://shop.example/\r\nX: y",
        "",
    ],
)
def test_what_is_no_web_address_is_not_even_looked_up(shop: Shop, url: str) -> None:
    """Another scheme, a password, a port that is not the web's."""
    names = Names()
    with pytest.raises(Refused) as caught:
        fetch(shop, url, names=names)
    assert caught.value.code == "bad_url"
    assert names.asked == []


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.2",
        "127.1",
        "2130706434",
        "0x7f000002",
        "127。0。0。2",
        "[::1]",
        "[::ffff:127.0.0.2]",
        "0",
    ],
)
def test_a_private_address_is_not_asked_however_it_is_written(shop: Shop, host: str) -> None:
    """The machine's own resolver reads it, and what it reads is checked."""
    wire = Wire()
    assert failure(shop, f"http://{host}/a.jpg", wire=wire).code == "private_address"
    assert wire.opened == []


@pytest.mark.parametrize("answers", [PRIVATE, "10.0.0.1", "169.254.169.254", f"93.184.215.14, {PRIVATE}", "fd00::1"])
def test_a_name_that_leads_to_a_private_address_is_not_asked(shop: Shop, answers: str) -> None:
    """Also where only one of its addresses is private."""
    wire = Wire()
    url = shop.url("/a.jpg", host="shop.example")
    assert failure(shop, url, names=Names(shop_example=answers), wire=wire).code == "private_address"
    assert wire.opened == []


def test_a_name_that_changes_its_mind_gains_nothing(shop: Shop) -> None:
    """Resolved once, and the connection goes to the very address that was checked."""
    url = shop.lay_out("/a.jpg", content(GOOD), host="shop.example")
    names, wire = Names(shop_example=f"93.184.215.14;{PRIVATE}"), Wire()
    assert fetch(shop, url, names=names, wire=wire) == GOOD
    assert names.asked == ["shop.example"]
    assert wire.opened == [("93.184.215.14", shop.port)]


def test_no_proxy_of_the_environment_is_used(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would resolve the name anew, where we cannot see what it finds."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.lower(), "http://127.0.0.1:9")
    assert fetch(shop, shop.lay_out("/a.jpg", content(GOOD))) == GOOD


def test_the_next_address_is_tried_where_one_does_not_answer(shop: Shop) -> None:
    """A name with a dead server keeps its living one."""
    url = shop.lay_out("/a.jpg", content(GOOD), host="shop.example")

    class OneIsDead(Wire):
        def connect_tcp(self, host: str, port: int, **options: object) -> httpcore.NetworkStream:
            if host == "93.184.215.14":
                raise httpcore.ConnectError("refused")
            return super().connect_tcp(host, port, **options)

    wire = OneIsDead()
    assert fetch(shop, url, names=Names(shop_example="93.184.215.14, 127.0.0.1"), wire=wire) == GOOD
    assert wire.opened == [("127.0.0.1", shop.port)]


def test_redirects_are_followed_a_few_times(shop: Shop) -> None:
    """Relative ones and to other hosts."""
    shop.lay_out("/c.jpg", content(GOOD))
    shop.lay_out("/b", redirect("/c.jpg", 307))
    url = shop.lay_out("/a", redirect(shop.url("/b", host="other.example"), 301), host="shop.example")
    names = Names(shop_example="127.0.0.1", other_example="127.0.0.1")
    assert fetch(shop, url, names=names) == GOOD
    assert names.asked == ["shop.example", "other.example", "other.example"]


def test_a_redirect_to_a_private_address_is_refused(shop: Shop) -> None:
    """Each of them is checked like the first."""
    names, wire = Names(shop_example="127.0.0.1", inner_example=PRIVATE), Wire()
    for place in (f"http://{PRIVATE}/", "http://169.254.169.254/latest/meta-data/", "http://inner.example/"):
        url = shop.lay_out("/a", redirect(place), host="shop.example")
        assert failure(shop, url, names=names, wire=wire).code == "private_address"
    assert {address for address, _ in wire.opened} == {"127.0.0.1"}


@pytest.mark.parametrize("place", ["file:///etc/passwd", "http://user:secret@shop.example/", "http://[", "gopher://x/"])
def test_a_redirect_to_what_is_no_web_address_is_refused(shop: Shop, place: str) -> None:
    """The same rules as for what was typed."""
    assert failure(shop, shop.lay_out("/a", redirect(place))).code == "bad_url"


def test_redirects_come_to_an_end(shop: Shop) -> None:
    """The first address and three more."""
    assert failure(shop, shop.lay_out("/a", redirect("/a"))).code == "too_many_redirects"
    assert shop.visited("/a") == 4


def chunked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for piece in pieces:
        yield b"%x\r\n%s\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def test_the_bytes_are_counted_whatever_was_declared(shop: Shop) -> None:
    """A length that is declared too large is not even waited for; one that is not declared ends at the cap."""
    declared = shop.lay_out("/a", content(b"", Content_Length=str(MAX_BYTES + 1)))
    endless = shop.lay_out("/b", dripping(chunked(itertools.repeat(bytes(65536))), pause=0))
    assert failure(shop, declared).code == "too_large"
    assert failure(shop, endless).code == "too_large"
    wait_until(lambda: not shop.inside["b"], what="the endless one to be hung up on")


def test_a_file_that_is_shorter_or_longer_than_declared_is_not_taken(shop: Shop) -> None:
    """Another try may bring it whole."""
    shorter = shop.lay_out("/a", content(GOOD, Content_Length=str(len(GOOD) + 10)))
    longer = shop.lay_out("/b", content(GOOD, Content_Length=str(len(GOOD) - 10)))
    assert isinstance(failure(shop, shorter), Unverified)
    assert isinstance(failure(shop, longer), Unverified)


def test_a_packed_file_is_refused_unread(shop: Shop) -> None:
    """It was asked for as it is; what is packed may be a thousand times its size."""
    bomb = gzip.compress(bytes(50_000_000))
    assert failure(shop, shop.lay_out("/a", content(bomb, Content_Encoding="gzip"))).code == "packed"


@pytest.mark.parametrize(
    "pieces",
    [
        itertools.repeat(b"H"),
        itertools.chain([b"HTTP/1.1 200 OK\r\n"], itertools.repeat(b"X-More: 1\r\n")),
        itertools.chain([b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"], itertools.repeat(b"x")),
        itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["status line", "headers", "body", "interim answers"],
)
def test_an_answer_that_trickles_in_ends_with_the_time_it_has(shop: Shop, pieces: Iterator[bytes]) -> None:
    """No pause is long enough to be noticed, all of them together are: this shop would go on for ever."""
    url = shop.lay_out("/a", dripping(pieces, pause=0.02))
    error = failure(shop, url, seconds=0.5)
    assert isinstance(error, Retry)
    assert error.code == "file_slow"


def test_a_resolver_that_hangs_is_not_waited_for(shop: Shop) -> None:
    """The machine's own may take half a minute to give up. This one does not before the test is over."""
    over = threading.Event()

    def hanging(host: str, port: int) -> list[Address]:
        over.wait()
        return []

    web = Web(Reach(), resolve=hanging)
    try:
        with pytest.raises(Retry):
            web.fetch("https://shop.example/a.jpg", patience=timedelta(seconds=0.2))
    finally:
        over.set()


@pytest.mark.parametrize(
    ("code", "kind", "word"),
    [
        (404, Refused, "not_found"),
        (410, Refused, "not_found"),
        (401, Refused, "not_given"),
        (403, Refused, "not_given"),
        (204, Refused, "not_given"),
        (304, Refused, "not_given"),
        (429, Retry, "host_failed"),
        (500, Retry, "host_failed"),
        (503, Retry, "host_failed"),
    ],
)
def test_a_status_that_is_no_picture_says_whether_another_try_is_worth_it(
    shop: Shop, code: int, kind: type[DarkroomError], word: str
) -> None:
    """Never Park, never RateLimited: one host says nothing about all others."""
    error = failure(shop, shop.lay_out("/a", status(code, Retry_After="7")))
    assert (type(error), error.code) == (kind, word)
    assert error.retry_after == (timedelta(seconds=7) if kind is Retry else None)


@pytest.mark.parametrize(
    "answer", [dripping([b""], pause=0), dripping([b"\x16\x03\x01 what is this\r\n\r\n"], pause=0)]
)
def test_an_answer_that_is_none_may_be_tried_again(shop: Shop, answer: Answer) -> None:
    """Hung up at once, or not HTTP."""
    error = failure(shop, shop.lay_out("/a", answer))
    assert (type(error), error.code) == (Retry, "unreachable")


def test_a_host_that_is_not_there_is_told_from_one_that_is_out(shop: Shop) -> None:
    """A name nobody has stays so; a server that is down comes back."""
    gone = failure(shop, "https://no-such-name.invalid/a.jpg")
    assert (type(gone), gone.code) in ((Refused, "unknown_host"), (Retry, "unreachable"))  # by what the resolver says
    names = Names(shop_example="127.0.0.1")
    with open_shop() as other:
        pass
    web = Web(Reach.parse(f"127.0.0.1:{other.port}"), resolve=names)
    with pytest.raises(Retry) as caught:
        web.fetch(other.url("/a.jpg", host="shop.example"))
    assert caught.value.code == "unreachable"
    assert not isinstance(caught.value, Park)


@pytest.mark.parametrize(
    ("body", "kind", "word"),
    [
        (b"<html>buy now</html>", Refused, "wrong_type"),
        (b"GIF89a" + bytes(100), Unverified, "file_unverified"),
        (b"%PDF-1.7", Refused, "wrong_type"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", Refused, "wrong_type"),
        (picture("PNG", size=(2000, 1000), mode="1", colour=0), Refused, "too_many_pixels"),
        (GOOD[:-200], Unverified, "file_unverified"),
        (b"", Unverified, "file_unverified"),
    ],
)
def test_the_bytes_say_what_it_is(shop: Shop, body: bytes, kind: type[DarkroomError], word: str) -> None:
    """Whatever type was declared."""
    error = failure(shop, shop.lay_out("/a", content(body, "image/jpeg")))
    assert (type(error), error.code) == (kind, word)


def test_what_failed_once_can_be_fetched_again(shop: Shop) -> None:
    """Nothing of a failed fetch stays behind."""
    url = shop.lay_out("/a", in_turn(status(500), content(GOOD)))
    web = Web(reach_of(shop))
    with pytest.raises(Retry):
        web.fetch(url)
    assert web.fetch(url).content == GOOD


def test_tls_is_verified_for_the_name_though_the_address_is_connected_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The certificate must be the name's, and the name is what the server is told."""
    authority = ensure_authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    tls = TlsContexts(authority).for_host("shop.fal.media")
    told: list[str | None] = []
    tls.sni_callback = lambda _socket, name, _context: told.append(name)
    with open_shop(tls) as shop:
        shop.lay_out("/a.jpg", content(GOOD))
        names = Names(shop_fal_media="127.0.0.1", other_example="127.0.0.1")
        assert fetch(shop, shop.url("/a.jpg", host="shop.fal.media"), names=names) == GOOD
        error = failure(shop, shop.url("/a.jpg", host="other.example"), names=names)
        assert (type(error), error.code) == (Refused, "bad_certificate")
    assert told == ["shop.fal.media", "other.example"]
    assert isinstance(tls, ssl.SSLContext)
