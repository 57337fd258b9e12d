"""The one way to the open web: resolve a name once, check every address of it, connect to one of those.

This is the network backend of `httpcore`, which asks it for each connection: also at every redirect, and whatever the
layers above make of the URL, the check stands where the socket is opened. TLS is still verified for the name.

There is deliberately no proxy here. A proxy would resolve the name itself, so the address that was checked would not be
the one that is fetched, and it may stand where private addresses are near. Where machines reach the internet through a
proxy alone, nothing can be fetched from the open web.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from ipaddress import ip_address

import httpcore

from darkroom.errors import Refused, Retry
from darkroom.providers.web.addresses import Address, Reach

Resolver = Callable[[str, int], list[Address]]

RESOLVE_SECONDS = 5.0
CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 10.0  # between two pieces of an answer
MOST_ADDRESSES = 3  # tried, one after the other
# A name that does not exist stays so; whatever else the resolver says may pass.
UNKNOWN_NAMES = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


class Deadline:
    """The end of a fetch with all its redirects, however its pieces trickle in."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def within(self, seconds: float) -> float:
        """Return so many seconds, or what is left. Raise Retry when nothing is."""
        left = self._at - time.monotonic()
        if left <= 0:
            raise _too_slow()
        return min(seconds, left)


class CheckedNetwork(httpcore.NetworkBackend):
    def __init__(
        self, reach: Reach, deadline: Deadline, *, resolve: Resolver, network: httpcore.NetworkBackend
    ) -> None:
        self._reach = reach
        self._deadline = deadline
        self._resolve = resolve
        self._network = network

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to an address of the host.

        Raise Refused(code="private_address") if any address of the host is private: then none of them is asked.
        """
        failure: Exception | None = None
        for address in self._checked(host, port)[:MOST_ADDRESSES]:
            try:
                # The address, not the name: nobody resolves it again, so one that answers otherwise now gains nothing.
                stream = self._network.connect_tcp(
                    str(address),
                    port,
                    timeout=self._deadline.within(CONNECT_SECONDS),
                    local_address=local_address,
                    socket_options=socket_options,
                )
                return TimedStream(stream, self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError("the name has no address")

    def _checked(self, host: str, port: int) -> list[Address]:
        addresses = _in_time(lambda: self._resolve(host, port), self._deadline.within(RESOLVE_SECONDS))
        if not all(self._reach.has(address, port) for address in addresses):
            # Without the address: what a private name resolves to is nobody's business.
            raise Refused("the address is not on the public internet", code="private_address")
        return addresses


class TimedStream(httpcore.NetworkStream):
    """Every wait on it ends with the fetch's own time, also where a server sends a byte now and then."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, timeout=self._deadline.within(SILENCE_SECONDS))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, timeout=self._deadline.within(SILENCE_SECONDS))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        patience = self._deadline.within(CONNECT_SECONDS)
        try:
            stream = self._stream.start_tls(ssl_context, server_hostname, patience)
        except httpcore.ConnectError as error:
            if isinstance(error.__cause__, ssl.SSLCertVerificationError):
                raise Refused("the host's certificate does not hold for its name", code="bad_certificate") from error
            raise
        return TimedStream(stream, self._deadline)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


def resolve(host: str, port: int) -> list[Address]:
    """Return every address that the machine's resolver gives, its best first.

    Raise Refused for a name that there is not.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except UnicodeError as error:  # a label that is empty, or too long for the resolver
        raise _unknown_host() from error
    except socket.gaierror as error:
        if error.errno in UNKNOWN_NAMES:
            raise _unknown_host() from error
        raise Retry("the name of the host cannot be resolved just now", code="unreachable") from error
    return list(dict.fromkeys(ip_address(str(entry[4][0])) for entry in found))


def _in_time(look_up: Callable[[], list[Address]], seconds: float) -> list[Address]:
    """Look a name up in a thread. Raise Retry where it takes longer than `seconds`."""
    # The resolver's own time-out cannot be set: it may hang for half a minute.
    answer: Future[list[Address]] = Future()

    def run() -> None:
        try:
            answer.set_result(look_up())
        except Exception as error:
            answer.set_exception(error)

    # A daemon: one that hangs must not keep the process from its end.
    threading.Thread(target=run, daemon=True, name="resolve").start()
    try:
        return answer.result(seconds)
    except FutureTimeoutError as error:
        raise Retry("the name of the host was not resolved in time", code="unreachable") from error


def _unknown_host() -> Refused:
    return Refused("there is no host of that name", code="unknown_host")


def _too_slow() -> Retry:
    return Retry("the file came too slowly", code="file_slow")
