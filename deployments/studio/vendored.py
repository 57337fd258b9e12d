"""Scripts of others: from which package they are installed, in which version, and what they are to the last byte.

They are no part of this repository and of no CDN: the installer brings them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Final

from darkroom.errors import NeedsHuman


@dataclass(frozen=True, kw_only=True)
class Vendored:
    package: str
    version: str
    path: str
    sha256: str


VENDORED: Final[Mapping[str, Vendored]] = {
    "htmx.min.js": Vendored(
        package="django-js-lib-htmx",
        version="2.0.3.1",  # htmx 2.0.3
        path="js_lib_htmx/static/htmx/htmx.min.js",
        sha256="491955cd1810747d7d7b9ccb936400afb760e06d25d53e4572b64b6563b2784e",
    ),
}


@lru_cache(maxsize=64)
def vendored(name: str) -> bytes:
    """Return the script. Raise NeedsHuman where what is installed is another."""
    wanted = VENDORED[name]
    # Found by its metadata: the package is an application of Django's, which is not installed.
    content = Path(str(distribution(wanted.package).locate_file(wanted.path))).read_bytes()
    # Another version than the one that was read and tried is not served.
    if hashlib.sha256(content).hexdigest() != wanted.sha256:
        raise NeedsHuman(
            f"{name} is not that of {wanted.package} {wanted.version}: install Darkroom's requirements anew"
        )
    return content
