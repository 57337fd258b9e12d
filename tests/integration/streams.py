"""A reader of server-sent events, as an application has one."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
from support import SLOW, wait_until

from darkroom.tls import tls_context


@dataclass
class Reader:
    """What came on one stream, in a thread of its own, until it is closed by either side."""

    response: httpx.Response
    news: list[dict[str, Any]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)  # all other lines
    ended: threading.Event = field(default_factory=threading.Event)

    def read(self) -> None:
        try:
            for line in self.response.iter_lines():
                name, _, value = line.partition(": ")
                if name == "data":
                    self.news.append(json.loads(value))
                elif name not in ("id", "event"):
                    self.said.append(line)
        except (httpx.HTTPError, httpx.StreamError):
            pass  # the gateway was killed, or the test has closed it
        finally:
            self.ended.set()

    @property
    def numbers(self) -> list[int]:
        return [each["number"] for each in self.news]

    @property
    def events(self) -> list[str]:
        return [each["event"] for each in self.news]

    def until(self, event: str, *, times: int = 1) -> None:
        wait_until(lambda: self.events.count(event) >= times, timeout=30, what=f"{times} {event}, not {self.events}")

    def until_it_ends(self) -> None:
        assert self.ended.wait(SLOW * 30), "the stream did not end"


@contextmanager
def reading(url: str, *, key: str | None = None, **given: Any) -> Iterator[Reader]:
    """A stream that is open: its first line has come. Headers in `headers`, the rest is the query."""
    headers = given.pop("headers", {}) | ({"Authorization": f"Bearer {key}"} if key else {})
    with (
        httpx.Client(trust_env=False, timeout=httpx.Timeout(SLOW * 30, read=None), verify=tls_context()) as http,
        http.stream("GET", url, params=given, headers=headers) as response,
    ):
        assert response.status_code == 200, response.read()
        reader = Reader(response)
        thread = threading.Thread(target=reader.read, daemon=True)
        thread.start()
        wait_until(lambda: ": open" in reader.said or reader.ended.is_set(), what="the first line")
        yield reader
        # A close alone does not wake who reads: it would take note of it at the next heartbeat.
        with suppress(OSError):
            response.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        thread.join(SLOW * 10)
