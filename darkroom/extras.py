"""What is installed only where it is wanted: `pip install darkroom-media[local,film,debate,oidc]`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from darkroom.errors import NeedsHuman


@contextmanager
def needs_extra(name: str) -> Iterator[None]:
    """Raise NeedsHuman, naming the extra to install, where an import inside the block finds nothing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise not_installed(error.name or "a package", extra=name) from error


def not_installed(package: str, *, extra: str) -> NeedsHuman:
    return NeedsHuman(f"{package} is not installed: pip install 'darkroom-media[{extra}]'", code="not_installed")
