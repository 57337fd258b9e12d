"""A film of 1 GiB through a gateway of its own: it begins at once, is sought in, and is never in memory."""

from __future__ import annotations

import multiprocessing
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
from media_files import film as film_bytes
from playwright.sync_api import Page
from pydantic import SecretStr
from running_gateway import NO_PREFECT, GivenBlocks
from studio_browser import CHROMIUM
from support import free_port, wait_until

from darkroom.deployments.gateway.app import create_app
from darkroom.deployments.gateway.protocol import BoundedHttp
from darkroom.ledger import Asset, Ledger, StoredFile, new_id
from darkroom.media.links import asset_url
from darkroom.media.store import LocalFolder, MediaStore
from darkroom.settings import Settings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="how much a process has held only Linux tells")

MIB = 1 << 20
SIZE = 1024 * MIB
MOST_MEMORY_MIB = 32
MOST_SECONDS_TO_BEGIN = 0.1
MARK = b"here a scene begins"
SECONDS = 8.0
SCENES = (0, 333 * MIB, 700 * MIB + 17, SIZE - len(MARK))


@pytest.fixture
def settings(ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("PREFECT_API_URL", NO_PREFECT)
    return Settings(ledger_url=ledger_url, home=tmp_path, signing_key=SecretStr("a long random text"))


@pytest.fixture
def film(ledger: Ledger, tmp_path: Path) -> Asset:
    return kept(ledger, tmp_path, dict.fromkeys(SCENES, MARK))


def kept(ledger: Ledger, folder: Path, pieces: Mapping[int, bytes]) -> Asset:
    """A file with holes, so that it costs the disk nothing: its pieces by their places."""
    user_id, asset_id = ledger.users.add("ann").user_id, new_id("ast_")
    key = f"uploads/{user_id}/{asset_id}.mp4"
    file = folder / key
    file.parent.mkdir(parents=True)
    with file.open("wb") as out:
        for place, piece in pieces.items():
            out.seek(place)
            out.write(piece)
    size = file.stat().st_size
    stored = StoredFile(key=key, sha256="0" * 64, content_type="video/mp4", bytes=size, width=64, height=64)
    return ledger.assets.add_upload(user_id, asset_id=asset_id, file=stored)


@pytest.fixture
def playable(ledger: Ledger, tmp_path: Path) -> Asset:
    """One of that size that a browser plays: a gibibyte of nothing between its pictures and, at its end, its index."""
    made = bytearray(film_bytes(seconds=SECONDS, size=(320, 180)))
    box = made.index(b"mdat") - 4
    length = int.from_bytes(made[box : box + 4])
    index = bytes(made[box + length :])
    assert index[4:8] == b"moov"
    made[box : box + 4] = (length + SIZE).to_bytes(4)
    return kept(ledger, tmp_path, {0: bytes(made[: box + length]), box + length + SIZE: index})


def serve(settings: Settings, folder: str, port: int) -> None:
    app = create_app(settings, blocks=GivenBlocks(media=MediaStore(LocalFolder(folder))))
    uvicorn.run(app, port=port, http=BoundedHttp, access_log=False, log_level="warning")


@contextmanager
def gateway(settings: Settings, folder: Path) -> Iterator[tuple[httpx.Client, int]]:
    """A process of its own, whose memory is nobody else's. Yields a client and its id."""
    port = free_port()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(settings, str(folder), port))
    process.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as http:
            wait_until(lambda: _lives(http), timeout=60, every=0.1, what="the gateway")
            assert process.pid is not None
            yield http, process.pid
    finally:
        process.terminate()
        process.join(20)


def _lives(http: httpx.Client) -> bool:
    try:
        return http.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def most_held_mib(pid: int) -> float:
    """The most that it has held in memory since it was asked to forget."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def forget(pid: int) -> float:
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return most_held_mib(pid)


def seek(http: httpx.Client, link: str, place: int) -> float:
    """As a browser does: from there on, to be broken off. Returns the seconds to the first bytes, which are checked."""
    began = time.perf_counter()
    with http.stream("GET", link, headers={"Range": f"bytes={place}-"}) as answer:
        first = next(answer.iter_raw())
        seconds = time.perf_counter() - began
    assert (answer.status_code, first[: len(MARK)]) == (206, MARK)
    assert answer.headers["Content-Range"] == f"bytes {place}-{SIZE - 1}/{SIZE}"
    return seconds


def whole(http: httpx.Client, link: str) -> int:
    """How many bytes come, read in large pieces: what the client does is not measured."""
    with http.stream("GET", link) as answer:
        return sum(len(piece) for piece in answer.iter_raw(4 * MIB))


def stalled(url: httpx.URL, link: str, opened: ExitStack) -> None:
    """Somebody who asks for the whole and reads none of it."""
    reader = opened.enter_context(socket.create_connection((str(url.host), url.port or 80)))
    reader.sendall(f"GET {link} HTTP/1.1\r\nHost: {url.host}\r\n\r\n".encode())


def link_to(film: Asset, settings: Settings) -> str:
    parts = urlsplit(asset_url(film.id, settings))
    return f"{parts.path}?{parts.query}"


def test_a_film_of_a_gibibyte_begins_at_once_and_is_never_in_memory(
    settings: Settings, film: Asset, tmp_path: Path
) -> None:
    """First bytes within 100 ms wherever one seeks, and 32 MiB at most for all who watch and for who has stopped to."""
    link = link_to(film, settings)
    with gateway(settings, tmp_path) as (http, pid), ExitStack() as opened:
        seek(http, link, 0)  # what is loaded with the first request is no film's
        before = forget(pid)
        seconds = [min(seek(http, link, place) for _ in range(5)) for place in SCENES]
        for _ in range(8):
            stalled(http.base_url, link, opened)
        assert whole(http, link) == SIZE
        held = most_held_mib(pid) - before
    print(f"first bytes after {max(seconds) * 1000:.0f} ms at most, {held:.1f} MiB more")
    assert max(seconds) <= MOST_SECONDS_TO_BEGIN
    assert held <= MOST_MEMORY_MIB


SOUGHT = """async () => {
    const film = document.querySelector("video");
    const heard = name => new Promise((good, bad) => {
        film.addEventListener(name, () => good(film.currentTime), {once: true});
        film.addEventListener("error", () => bad(film.error.message), {once: true});
    });
    if (film.readyState < 1) await heard("loadedmetadata");
    const places = [];
    for (const place of [film.duration - 1, 1]) {
        const sought = heard("seeked");
        film.currentTime = place;
        places.push(await sought);
    }
    return [film.duration, film.videoHeight, ...places];
}"""


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium")
def test_a_browser_seeks_in_it(settings: Settings, playable: Asset, tmp_path: Path, page: Page) -> None:
    """It takes the beginning, finds the index behind the gibibyte, and shows the scenes that are asked for."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.headers.get("range", "")))
    with gateway(settings, tmp_path) as (http, _):
        page.set_content(f'<video src="{http.base_url}{link_to(playable, settings)}" preload="metadata">')
        assert page.evaluate(SOUGHT) == [SECONDS, 180, SECONDS - 1, 1]
    assert any(int(each.removeprefix("bytes=").removesuffix("-")) >= SIZE for each in asked if each), asked
