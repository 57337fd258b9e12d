"""What models work with: the files they are given, a thread to draw in, and the CDN to publish on."""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar
from urllib.parse import unquote_to_bytes, urlsplit

from .book import Entry
from .cdn import Cdn, Terms
from .faults import FileFault
from .hosts import Role, role_of
from .outcomes import Place, Rejection
from .pictures import EXTENSIONS, MEDIA_TYPES, pixel_bomb

P = ParamSpec("P")
T = TypeVar("T")

_FOREIGN_HOST = "evil.example"
_PAGE = b"<!doctype html><title>Not a picture</title><p>This is not the picture you are looking for.</p>\n"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file that an input names, and where it does."""

    content: bytes
    url: str
    place: Place

    def refused(self, error_type: str, *, message: str | None = None, **context: Any) -> Rejection:
        return Rejection(error_type, place=self.place, given=self.url, context=context, message=message)


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A picture that is ready to be published."""

    content: bytes
    width: int
    height: int
    format: str

    @property
    def media_type(self) -> str:
        return MEDIA_TYPES[self.format]


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a model answers with."""

    body: dict[str, Any]
    billable_units: str


class Bench:
    def __init__(self, cdn: Cdn, *, fixed_pictures: bool) -> None:
        self.fixed_pictures = fixed_pictures
        self._cdn = cdn
        # All CPU time of models is spent in this one thread, beside the event loop and during the latency.
        self._pen = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pictures")

    def close(self) -> None:
        self._pen.shutdown(wait=False, cancel_futures=True)

    async def work(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pen, lambda: function(*args, **kwargs))

    def read(self, entry: Entry, url: str, *, place: Place) -> Source:
        """Read the source, inline or from the CDN. Raise Rejection where it cannot be had."""
        inline = url.startswith("data:")
        # Without the content: the book is read by people, and written to the journal.
        entry.files_read.append("data:" if inline else url)
        content = _decoded(url) if inline else self._from_cdn(url)
        # fal's word for every link that leads to no file, whatever the cause.
        if content is None:
            raise Rejection("file_download_error", place=place, given=url)
        return Source(content=content, url=url, place=place)

    def _from_cdn(self, url: str) -> bytes | None:
        # Files are read where fal keeps them: the simulator does not go out into the world.
        try:
            parts = urlsplit(url)
        except ValueError:
            return None
        if parts.scheme != "https" or role_of(parts.hostname or "") is not Role.CDN:
            return None
        file = self._cdn.read(parts.path)
        # Whatever else is wrong with a file is wrong with its content, which the model finds out.
        return file.content if file is not None and file.fault not in _UNREADABLE else None

    def publish_image(self, entry: Entry, drawn: Drawn, *, inline: bool = False) -> dict[str, Any]:
        name = f"{secrets.token_urlsafe(16)}.{EXTENSIONS[drawn.format]}"
        url = _data_uri(drawn) if inline else self._publish(entry, drawn.content, drawn.media_type, name)
        return {
            "url": url,
            "width": drawn.width,
            "height": drawn.height,
            "content_type": drawn.media_type,
            "file_name": name,
            "file_size": len(drawn.content),
        }

    def publish_file(self, entry: Entry, content: bytes, *, content_type: str, name: str) -> dict[str, Any]:
        url = self._publish(entry, content, content_type, f"{secrets.token_urlsafe(16)}_{name}")
        return {"url": url, "content_type": content_type, "file_name": name, "file_size": len(content)}

    def _publish(self, entry: Entry, content: bytes, content_type: str, name: str) -> str:
        fault = entry.faults.file
        if fault is FileFault.FOREIGN_HOST:
            return f"https://{_FOREIGN_HOST}/files/{name}"
        if fault is FileFault.HTML:
            content, content_type = _PAGE, "text/html; charset=utf-8"
        elif fault is FileFault.PIXEL_BOMB:
            content, content_type = pixel_bomb(), "image/png"
        elif fault is FileFault.CUT_SHORT:
            content = content[: len(content) // 2]
        terms = Terms(
            owner=entry.account.user_id, lifetime_seconds=entry.file_lifetime_seconds, access=entry.file_access
        )
        url = self._cdn.publish(content, content_type=content_type, name=name, terms=terms, faults=entry.faults)
        entry.outputs.append(url)
        return url


_UNREADABLE = {FileFault.MISSING, FileFault.TRUNCATED, FileFault.REDIRECT, FileFault.HUGE, FileFault.HUGE_UNDECLARED}


def _data_uri(drawn: Drawn) -> str:
    return f"data:{drawn.media_type};base64,{base64.b64encode(drawn.content).decode()}"


def _decoded(url: str) -> bytes | None:
    head, comma, data = url.partition(",")
    if not comma:
        return None
    try:
        return base64.b64decode(data) if head.endswith(";base64") else unquote_to_bytes(data)
    except binascii.Error:
        return None
