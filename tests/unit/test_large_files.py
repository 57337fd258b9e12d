"""Files that are too large for memory: fetched to disk, read there, stored from there."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedRandom, BytesIO, FileIO
from pathlib import Path
from zipfile import ZipFile

import httpx
import media_files
import pytest

from darkroom.engine.store import MOST_READ_BYTES, readable
from darkroom.errors import BadInput, Refused, StoreFull, Unverified
from darkroom.ledger import Asset
from darkroom.media import fetching, formats
from darkroom.media.formats import Kind, MediaOnDisk, verify, verify_file

MIB = 1 << 20
SIZE = 256 * MIB
PIECE = b"not a kind that anybody knows. " + os.urandom(MIB - 31)
HOSTS = re.compile(rb"files\.example")

# Fetches, stores and reads a file, and prints by how much its peak grew.
CHILD = """
import json, re, sys
from pathlib import Path
import httpx
from darkroom.media.fetching import fetched_file
from darkroom.media.formats import Kind
from darkroom.media.store import LocalFolder, MediaStore

class Near(httpx.HTTPTransport):
    def handle_request(self, request):
        request.url = httpx.URL(sys.argv[1])
        return super().handle_request(request)

def peak():
    return next(int(line.split()[1]) << 10 for line in Path("/proc/self/status").open() if line.startswith("VmHWM"))

store = MediaStore(LocalFolder(sys.argv[2]))
with httpx.Client(transport=Near()) as client:
    before = peak()
    hosts = re.compile(rb"files.example")
    with fetched_file("https://files.example/a", Kind.FILE, hosts=hosts, max_bytes=1 << 30, client=client) as media:
        store.write_file("files/a.bin", media.file) if media.file.seek(0) == 0 else None
    chunks = store.stream("files/a.bin", stop=media.size)
    read = sum(len(chunk) for chunk in chunks)
    chunks.close()
print(json.dumps({"grown": peak() - before, "sha256": media.sha256, "size": media.size, "read": read}))
"""


@contextmanager
def served(pieces: int) -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(pieces * len(PIECE)))
            self.end_headers()
            for _ in range(pieces):
                self.wfile.write(PIECE)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="tells a process's peak on Linux alone")
def test_a_large_file_is_never_in_memory(tmp_path: Path) -> None:
    """Fetched, stored and read again, it costs its process less than a quarter of its size."""
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    with served(SIZE // MIB) as url:
        child = [sys.executable, "-c", CHILD, url, str(tmp_path)]
        told = json.loads(subprocess.run(child, env=environment, check=True, capture_output=True).stdout)

    (file,) = tmp_path.rglob("*.bin")
    with file.open("rb") as stored:
        assert hashlib.file_digest(stored, "sha256").hexdigest() == told["sha256"]
    assert told["size"] == told["read"] == file.stat().st_size == SIZE
    assert told["grown"] <= SIZE // 4


def archive() -> bytes:
    out = BytesIO()
    with ZipFile(out, "w") as opened:
        opened.writestr("a.txt", "a" * 1000)
    return out.getvalue()


def weights() -> bytes:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(8)


MADE: dict[str, tuple[Callable[[], bytes], Kind]] = {
    "film": (media_files.film, Kind.VIDEO),
    "archive": (archive, Kind.ARCHIVE),
    "weights": (weights, Kind.WEIGHTS),
    "a film of any kind": (media_files.film, Kind.FILE),
    "an archive of any kind": (archive, Kind.FILE),
    "weights of any kind": (weights, Kind.FILE),
    "a film that is none": (lambda: media_files.film()[:-4000], Kind.FILE),
    "3D": (lambda: b"glTF" + bytes(100), Kind.FILE),
    "unknown": (lambda: PIECE[:1000], Kind.FILE),
}


@pytest.mark.parametrize(("make", "kind"), MADE.values(), ids=MADE)
def test_a_file_on_disk_is_read_as_one_in_memory(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], bytes], kind: Kind
) -> None:
    """The same type, the same measures, refused for the same reasons."""
    content = make()

    def told(read: Callable[[], object]) -> object:
        try:
            media = read()
        except (Refused, Unverified) as error:
            return type(error), error.message
        return [getattr(media, name) for name in ("content_type", "extension", "sha256", "size", "width", "seconds")]

    monkeypatch.setattr(formats, "SMALL_BYTES", 0)
    sha256 = hashlib.sha256(content).hexdigest()
    for given in (kind, Kind.VIDEO, Kind.ARCHIVE, Kind.WEIGHTS):
        on_disk = told(lambda given=given: verify_file(BytesIO(content), given, sha256=sha256))
        assert on_disk == told(lambda given=given: verify(content, given))


def test_what_is_not_read_to_its_end_stays_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture of usual size is decoded in memory; one of hundreds of megabytes is kept as it is."""
    monkeypatch.setattr(formats, "SMALL_BYTES", 0)
    monkeypatch.setattr(formats, "MOST_IN_MEMORY_BYTES", 10)
    content = b"\x89PNG\r\n\x1a\n" + bytes(100)

    kept = verify_file(BytesIO(content), Kind.FILE, sha256="ab")

    assert isinstance(kept, MediaOnDisk)
    assert (kept.content_type, kept.size, kept.width) == ("application/octet-stream", 108, None)


class Full(BytesIO):
    def write(self, _: object) -> int:
        raise OSError(28, "No space left on device")


# What is buffered has no room only when it is written out.
FULL_DISKS: list[Callable[[], object]] = [Full, lambda: BufferedRandom(FileIO("/dev/full", "r+"))]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full is Linux's")
@pytest.mark.parametrize("file", FULL_DISKS, ids=["in the midst", "at its end"])
def test_a_disk_without_room_is_waited_for(monkeypatch: pytest.MonkeyPatch, file: Callable[[], object]) -> None:
    """What is paid is not lost to a full TMPDIR: it is fetched again when there is room."""
    monkeypatch.setattr(fetching, "TemporaryFile", lambda **_: file())
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=iter([b"a film"])))
    with httpx.Client(transport=transport) as client:
        fetched = fetching.fetched_file("https://files.example/a", Kind.FILE, hosts=HOSTS, max_bytes=10, client=client)
        with pytest.raises(StoreFull, match="TMPDIR"):
            fetched.__enter__()


def test_a_job_does_not_read_what_memory_would_not_hold() -> None:
    """The file is kept and served; who wants to work on it is told its size."""
    assert readable(Asset(id="ast_1", bytes=MOST_READ_BYTES)).id == "ast_1"
    with pytest.raises(BadInput, match="513 MiB"):
        readable(Asset(id="ast_1", bytes=513 * MIB))
