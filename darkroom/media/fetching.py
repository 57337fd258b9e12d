"""Fetching a generated file, believing nothing about it: not its address, its size, its type, nor that it is whole.

The address must be at one of the provider's file hosts at every redirect; the bytes are counted while they stream,
against the cap and against the length that was declared; then it is read to its end (`darkroom/media/formats/`). What
may be large goes to a temporary file meanwhile, never as a whole into memory.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile

import httpx

from darkroom.errors import DarkroomError, Park, Refused, Retry, StoreFull, Unverified
from darkroom.media.formats import MAX_PIXELS, Kind, Media, MediaOnDisk, verify, verify_file
from darkroom.media.streams import FULL
from darkroom.tls import tls_context

MAX_BYTES = 64 * 1024 * 1024
MAX_REDIRECTS = 3
PATIENCE_SECONDS = 120.0
SLOWEST_BYTES = 4 << 20  # a second, of what takes longer than that

Keep = Callable[[bytes], object]  # is given a file piece by piece


def file_client() -> httpx.Client:
    """Open a client for files alone: it knows no key, and keeps its connections for the next file."""
    return httpx.Client(timeout=httpx.Timeout(30.0, connect=5.0), verify=tls_context())


def fetch_file(
    url: str,
    kind: Kind = Kind.IMAGE,
    *,
    hosts: re.Pattern[bytes],
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    client: httpx.Client | None = None,
) -> Media:
    """Fetch a file and verify it. `hosts`: of which one must match the whole host of its address.

    Raise Refused for what must not be stored, Unverified or Retry for what another try may bring, Park for a host that
    is out.
    """
    content = bytearray()
    with _client_or_own(client) as http:
        _download(http, url, content.extend, hosts=hosts, max_bytes=max_bytes)
    return verify(bytes(content), kind, max_pixels=max_pixels)


@contextmanager
def fetched_file(
    url: str,
    kind: Kind,
    *,
    hosts: re.Pattern[bytes],
    max_bytes: int,
    max_pixels: int = MAX_PIXELS,
    client: httpx.Client | None = None,
) -> Iterator[Media | MediaOnDisk]:
    """Fetch a file that may be large and verify it; it is there until the block ends. Raise as `fetch_file` does."""
    # Around the file: what it had no room for it tries to write once more as it is closed, and fails again.
    with _told_where_full(), TemporaryFile(prefix="darkroom-") as file:
        digest = hashlib.sha256()

        def keep(chunk: bytes) -> None:
            digest.update(chunk)
            file.write(chunk)

        with _client_or_own(client) as http:
            _download(http, url, keep, hosts=hosts, max_bytes=max_bytes)
        file.flush()  # else the end of a file that had no room is missing from what is read
        yield verify_file(file, kind, sha256=digest.hexdigest(), max_pixels=max_pixels)


@contextmanager
def _told_where_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise StoreFull("there is no room for files on their way to the store: make some in TMPDIR") from error


def check_address(url: str | httpx.URL, *, hosts: re.Pattern[bytes]) -> httpx.URL:
    """Return the URL as httpx will use it.

    Raise Refused for what is not at one of these hosts.
    """
    # Parsed here, once: a second parser could read another host out of the same text.
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise Refused("the file's address is not a URL", code="foreign_host") from error
    plain = parsed.scheme == "https" and not parsed.userinfo and parsed.port is None
    if not plain or not hosts.fullmatch(parsed.raw_host):
        raise Refused("the file is not at one of the provider's file hosts", code="foreign_host")
    return parsed


@contextmanager
def _client_or_own(client: httpx.Client | None) -> Iterator[httpx.Client]:
    if client is not None:
        yield client
        return
    with file_client() as own:
        yield own


def _download(http: httpx.Client, url: str, keep: Keep, *, hosts: re.Pattern[bytes], max_bytes: int) -> None:
    target = check_address(url, hosts=hosts)
    try:
        for _ in range(MAX_REDIRECTS + 1):
            response = _open(http, target)
            try:
                if not response.has_redirect_location:
                    return _read(response, keep, max_bytes=max_bytes)
                target = check_address(target.join(response.headers["location"]), hosts=hosts)
            finally:
                response.close()
    except httpx.InvalidURL as error:
        raise Refused("the file redirects to what is not a URL", code="foreign_host") from error
    except httpx.HTTPError as error:
        # Nothing of it has come yet, so the host is out; and it is waited for, as the file is paid.
        raise Park(f"the file host cannot be reached ({type(error).__name__})", code="file_unreachable") from error
    raise Refused("the file redirects without end", code="too_many_redirects")


def _open(http: httpx.Client, target: httpx.URL) -> httpx.Response:
    request = http.build_request("GET", target, headers={"Accept-Encoding": "identity"})
    # Files are public and their hosts must never see the key, whatever client was handed in.
    request.headers.pop("Authorization", None)
    return http.send(request, stream=True, auth=None, follow_redirects=False)


def _read(response: httpx.Response, keep: Keep, *, max_bytes: int) -> None:
    if response.status_code != 200:
        raise _status_failure(response.status_code)
    declared = _declared_length(response)
    if declared is not None and declared > max_bytes:
        raise _too_large(max_bytes)
    received = _stream(response, keep, max_bytes=max_bytes)
    # Also where the connection ends politely.
    if declared is not None and received != declared:
        raise Unverified(f"the file was cut short: {received} of {declared} bytes")


def _stream(response: httpx.Response, keep: Keep, *, max_bytes: int) -> int:
    received = 0
    begun = time.monotonic()
    try:
        # Not unpacked: it was asked for as it is, and what is packed may be a thousand times as large.
        for chunk in response.iter_raw():
            received += len(chunk)
            if received > max_bytes:
                raise _too_large(max_bytes)
            keep(chunk)
            if time.monotonic() - begun > PATIENCE_SECONDS + received / SLOWEST_BYTES:
                raise Retry("the file came too slowly", code="file_slow")
    except (httpx.RemoteProtocolError, httpx.ReadError) as error:
        raise Unverified(f"the file was cut short after {received} bytes") from error
    return received


def _declared_length(response: httpx.Response) -> int | None:
    value = response.headers.get("content-length", "")
    return int(value) if value.isascii() and value.isdigit() else None


def _status_failure(status: int) -> DarkroomError:
    # It may yet appear: its provider has just said that it is there.
    if status in (404, 410):
        return Retry(f"the file is not there (HTTP {status})", code="file_missing")
    if status >= 500 or status == 429:
        return Park(f"the file host answered HTTP {status}", code="file_unreachable")
    return Retry(f"the file host answered HTTP {status}", code="file_unreachable")


def _too_large(max_bytes: int) -> Refused:
    return Refused(f"the file is larger than {max_bytes} bytes", code="too_large")
