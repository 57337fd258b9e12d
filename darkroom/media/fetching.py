"""Fetching a generated file, believing nothing about it: not its address, its size, its type, nor that it is whole.

The address must be at one of the provider's file hosts at every redirect; the bytes are counted while they stream,
against the cap and against the length that was declared; then it is read to its end (`darkroom/media/formats/`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from darkroom.errors import DarkroomError, Park, Refused, Retry, Unverified
from darkroom.media.formats import MAX_PIXELS, Kind, Media, verify
from darkroom.tls import tls_context

MAX_BYTES = 64 * 1024 * 1024
MAX_REDIRECTS = 3
PATIENCE_SECONDS = 120.0


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
    with _client_or_own(client) as http:
        content = _download(http, url, hosts=hosts, max_bytes=max_bytes)
    return verify(content, kind, max_pixels=max_pixels)


def check_address(url: str | httpx.URL, *, hosts: re.Pattern[bytes]) -> httpx.URL:
    """Return the URL as httpx will use it, so that no second parser can read another host out of it.

    Raise Refused for what is not at one of these hosts.
    """
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


def _download(http: httpx.Client, url: str, *, hosts: re.Pattern[bytes], max_bytes: int) -> bytes:
    target = check_address(url, hosts=hosts)
    try:
        for _ in range(MAX_REDIRECTS + 1):
            response = _open(http, target)
            try:
                if not response.has_redirect_location:
                    return _read(response, max_bytes=max_bytes)
                target = check_address(target.join(response.headers["location"]), hosts=hosts)
            finally:
                response.close()
    except httpx.InvalidURL as error:
        raise Refused("the file redirects to what is not a URL", code="foreign_host") from error
    except httpx.HTTPError as error:
        raise Park(f"the file host cannot be reached ({type(error).__name__})", code="file_unreachable") from error
    raise Refused("the file redirects without end", code="too_many_redirects")


def _open(http: httpx.Client, target: httpx.URL) -> httpx.Response:
    request = http.build_request("GET", target, headers={"Accept-Encoding": "identity"})
    # Files are public and their hosts must never see the key, whatever client was handed in.
    request.headers.pop("Authorization", None)
    return http.send(request, stream=True, auth=None, follow_redirects=False)


def _read(response: httpx.Response, *, max_bytes: int) -> bytes:
    if response.status_code != 200:
        raise _status_failure(response.status_code)
    declared = _declared_length(response)
    if declared is not None and declared > max_bytes:
        raise _too_large(max_bytes)
    content = _stream(response, max_bytes=max_bytes)
    if declared is not None and len(content) != declared:
        raise Unverified(f"the file was cut short: {len(content)} of {declared} bytes")
    return content


def _stream(response: httpx.Response, *, max_bytes: int) -> bytes:
    content = bytearray()
    give_up = time.monotonic() + PATIENCE_SECONDS
    try:
        for chunk in response.iter_raw():
            content += chunk
            if len(content) > max_bytes:
                raise _too_large(max_bytes)
            if time.monotonic() > give_up:
                raise Retry("the file came too slowly", code="file_slow")
    except (httpx.RemoteProtocolError, httpx.ReadError) as error:
        raise Unverified(f"the file was cut short after {len(content)} bytes") from error
    return bytes(content)


def _declared_length(response: httpx.Response) -> int | None:
    value = response.headers.get("content-length", "")
    return int(value) if value.isascii() and value.isdigit() else None


def _status_failure(status: int) -> DarkroomError:
    if status in (404, 410):
        return Retry(f"the file is not there (HTTP {status})", code="file_missing")
    if status >= 500 or status == 429:
        return Park(f"the file host answered HTTP {status}", code="file_unreachable")
    return Retry(f"the file host answered HTTP {status}", code="file_unreachable")


def _too_large(max_bytes: int) -> Refused:
    return Refused(f"the file is larger than {max_bytes} bytes", code="too_large")
