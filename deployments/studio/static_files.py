"""The Studio's scripts and styles, its own and those of others, under addresses that change with their content."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.resources import files

from fastapi import APIRouter, Response

from darkroom.deployments.studio.vendored import VENDORED, vendored

PREFIX = "/studio"
# Told by us, and not by the machine's table: with `nosniff` a browser takes no script of another type.
TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
FOREVER = "public, max-age=31536000, immutable"  # a year: what changes has another address (`address`)

router = APIRouter()


@router.get("/static/{name}")
async def static_file(name: str) -> Response:
    """Return a file of ours by its name."""
    # One of a list: there is no folder that a path could lead out of.
    if name not in known():
        return Response(status_code=404)
    kind = name.rpartition(".")[2]
    return Response(content_of(name), media_type=TYPES[kind], headers={"Cache-Control": FOREVER})


@lru_cache(maxsize=64)
def known() -> frozenset[str]:
    own = files("darkroom.deployments.studio").joinpath("static").iterdir()
    return frozenset({*VENDORED, *(file.name for file in own if file.name.rpartition(".")[2] in TYPES)})


@lru_cache(maxsize=64)
def content_of(name: str) -> bytes:
    if name in VENDORED:
        return vendored(name)
    return files("darkroom.deployments.studio").joinpath("static", name).read_bytes()


@lru_cache(maxsize=64)
def address(name: str) -> str:
    """Return where a file is, with what it is in the address: it may be kept for good."""
    return f"{PREFIX}/static/{name}?v={hashlib.sha256(content_of(name)).hexdigest()[:12]}"
