"""Which pictures are let in. The file host is a handler function; the pictures are real ones."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO

import httpx
import pytest
from PIL import Image

from darkroom.errors import DarkroomError, Park, Refused, Retry, Unverified
from darkroom.media.fetching import fetch_file
from darkroom.media.formats import Media
from darkroom.providers.fal.account import FILE_HOSTS

URL = "https://v3b.fal.media/files/b/0a1b2c3d/fox.png"
Handler = Callable[[httpx.Request], httpx.Response]


def picture(kind: str, *, size: tuple[int, int] = (64, 48), mode: str = "RGB") -> bytes:
    image = Image.effect_noise(size, 50).convert(mode)
    out = BytesIO()
    image.save(out, kind)
    return out.getvalue()


def sent(content: bytes, status: int = 200, **headers: str) -> httpx.Response:
    """As it comes over the wire: with its length, and unread."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers={"Content-Length": str(len(content))} | named, content=iter([content]))


def fetch(answer: bytes | Handler, *, url: str = URL, max_bytes: int = 1_000_000) -> Media:
    handler = answer if callable(answer) else (lambda _: sent(answer))
    with httpx.Client(transport=httpx.MockTransport(handler), headers={"Authorization": "Key secret"}) as client:
        return fetch_file(url, hosts=FILE_HOSTS, max_bytes=max_bytes, max_pixels=10_000, client=client)


def failure(answer: bytes | Handler, *, url: str = URL, max_bytes: int = 1_000_000) -> DarkroomError:
    with pytest.raises(DarkroomError) as caught:
        fetch(answer, url=url, max_bytes=max_bytes)
    return caught.value


@pytest.mark.parametrize(
    ("kind", "content_type", "extension"),
    [("JPEG", "image/jpeg", "jpg"), ("PNG", "image/png", "png"), ("WEBP", "image/webp", "webp")],
)
def test_a_whole_picture_is_taken_as_what_it_is(kind: str, content_type: str, extension: str) -> None:
    """Type and size come from the decoded bytes, whatever the server calls them."""
    content = picture(kind)
    fetched = fetch(lambda _: sent(content, Content_Type="text/plain"))
    assert fetched == Media(
        content=content,
        content_type=content_type,
        extension=extension,
        width=64,
        height=48,
        sha256=hashlib.sha256(content).hexdigest(),
    )


def test_the_key_is_never_sent_to_a_file_host() -> None:
    """Not even when the client that is handed in carries it."""
    seen: list[httpx.Request] = []

    def host(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return sent(picture("PNG"))

    fetch(host)
    assert "authorization" not in seen[0].headers


@pytest.mark.parametrize(
    "url",
    [
        "http://v3.fal.media/x.png",
        "https://example.com/x.png",
        "https://fal.media.example.com/x.png",
        "https://notfal.media/x.png",
        "https://fal.media@example.com/x.png",
        "https://user:word@v3.fal.media/x.png",
        "https://v3.fal.media:8443/x.png",
        "https://v3.fal.media./x.png",
        "https://example.com\\.fal.media/x.png",
        "https://127.0.0.1/x.png",
        "https://[::1]/x.png",
        "https:///x.png",
        "https://v3.fal.media:99999999/x",
        "https://exa\nmple.fal.media/x",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "",
    ],
)
def test_only_fals_file_hosts_are_asked(url: str) -> None:
    """Anything else is refused before a connection is made."""

    def never(request: httpx.Request) -> httpx.Response:
        raise AssertionError(f"connected to {request.url}")

    error = failure(never, url=url)
    assert (type(error), error.code) == (Refused, "foreign_host")


@pytest.mark.parametrize("url", ["https://fal.media/x", "https://V3.FAL.media/x", "https://a.b.fal.media:443/x"])
def test_every_host_of_fals_is_one(url: str) -> None:
    """The prefix has moved before, so all subdomains count, in any case."""
    assert fetch(picture("PNG"), url=url).width == 64


def redirecting(*targets: str) -> Handler:
    queue = list(targets)
    return lambda _: httpx.Response(302, headers={"Location": queue.pop(0)}) if queue else sent(picture("PNG"))


def test_redirects_are_followed_within_fals_hosts() -> None:
    """Three at most, relative ones too."""
    assert fetch(redirecting("/other.png", "https://v3.fal.media/b.png", "//fal.media/c.png")).width == 64
    assert failure(redirecting(*["/again.png"] * 4)).code == "too_many_redirects"


@pytest.mark.parametrize(
    "target",
    [
        "https://example.com/x.png",
        "http://v3.fal.media/x.png",
        "//169.254.169.254/latest",
        "https://[broken",
        "ftp://x",
    ],
)
def test_a_redirect_elsewhere_is_refused(target: str) -> None:
    """Each hop is checked like the first address."""
    error = failure(redirecting(target))
    assert (type(error), error.code) == (Refused, "foreign_host")


def test_a_file_larger_than_the_cap_is_refused_whether_it_says_so_or_not() -> None:
    """By its declared length before it is read, else as soon as the cap is passed."""
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        while True:
            read += 1000
            yield bytes(1000)

    def declared(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Length": "5001"}, content=endless())

    assert (type(failure(declared, max_bytes=5000)), read) == (Refused, 0)
    assert failure(lambda _: httpx.Response(200, content=endless()), max_bytes=5000).code == "too_large"
    assert read == 6000


def test_a_file_shorter_than_declared_is_fetched_again() -> None:
    """The length that was promised must come, even when the connection ends politely and what came can be read."""
    content = picture("PNG")

    def cut(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Length": str(len(content) + 20)}, content=iter([content]))

    assert type(failure(cut)) is Unverified


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("part", [0.02, 0.1, 0.5, 0.9])
def test_half_a_picture_is_not_a_picture(kind: str, part: float) -> None:
    """Cut short under an honest length, it does not decode to its last row."""
    content = picture(kind)
    assert type(failure(content[: max(int(len(content) * part), 12)])) is Unverified


def test_a_jpeg_without_its_last_bytes_is_noticed() -> None:
    """Though it is decoded at an eighth of its scale, its stream is read to the end.

    Of the picture's own bytes: without the end marker, the last two, every pixel is there, and some decode.
    """
    content = picture("JPEG", size=(100, 100))
    assert fetch(content).width == 100
    assert all(type(failure(content[:-cut])) is Unverified for cut in (10, 40, 200))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_damaged_picture_is_fetched_again(kind: str) -> None:
    """Zeros in its middle are damage, not another type."""
    content = bytearray(picture(kind))
    content[30 : len(content)] = bytes(len(content) - 30)
    assert isinstance(failure(bytes(content)), Unverified)


@pytest.mark.parametrize(
    "content", [b"<!doctype html><html></html>", picture("ICO"), picture("PPM"), b"%PDF-1.7", b"x", b"BM, a text"]
)
def test_other_types_are_refused(content: bytes) -> None:
    """Only pictures that a camera, the web or an office makes are stored; a web page is not."""
    error = failure(content)
    assert (type(error), error.code) == (Refused, "wrong_type")


def test_an_empty_file_is_fetched_again() -> None:
    """Nothing at all is a file cut short."""
    assert type(failure(b"")) is Unverified


def test_a_picture_behind_compression_is_not_unpacked() -> None:
    """A file that is sent compressed against our word is not what was asked for."""
    packed = zlib.compress(bytes(10_000_000))
    answer = failure(lambda _: sent(packed, Content_Encoding="deflate"))
    assert answer.code == "wrong_type"


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims a size without having the pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(101, 100), (10_000, 9_000), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_too_many_pixels_are_refused_before_they_are_unpacked(size: tuple[int, int]) -> None:
    """The header is enough, at sizes where Pillow is silent, where it warns and where it raises."""
    error = failure(png_of(*size))
    assert (type(error), error.code) == (Refused, "too_many_pixels")


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (404, Retry, "file_missing"),
        (410, Retry, "file_missing"),
        (403, Retry, "file_unreachable"),
        (429, Park, "file_unreachable"),
        (500, Park, "file_unreachable"),
        (503, Park, "file_unreachable"),
    ],
)
def test_a_file_that_is_not_there_yet_is_fetched_again(status: int, kind: type[DarkroomError], code: str) -> None:
    """A missing file may appear; a host that is out is waited for, as the file is paid."""
    error = failure(lambda _: sent(picture("PNG"), status))
    assert (type(error), error.code) == (kind, code)


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ReadTimeout, httpx.RemoteProtocolError])
def test_a_broken_connection_is_tried_again(error: type[httpx.TransportError]) -> None:
    """Before the file has begun to come, any transport error says that the host is out."""

    def broken(request: httpx.Request) -> httpx.Response:
        raise error("…", request=request)

    found = failure(broken)
    assert (type(found), found.code) == (Park, "file_unreachable")
