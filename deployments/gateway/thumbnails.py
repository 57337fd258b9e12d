"""Small pictures of assets: made when one is asked for first, then kept in the media store under their own key.

Few are made at a time; the others wait for their turn.
"""

from __future__ import annotations

from contextlib import closing
from enum import IntEnum
from weakref import WeakValueDictionary

from anyio import CapacityLimiter, Lock
from anyio.to_thread import run_sync

from darkroom.deployments.gateway.problems import Problem
from darkroom.errors import NeedsHuman, Permanent
from darkroom.ledger import Asset
from darkroom.media import thumbnails
from darkroom.media.store import MediaStore
from darkroom.media.thumbnails import Form

PICTURES = frozenset({"image/jpeg", "image/png", "image/webp"})
FILMS = frozenset({"video/mp4"})
AT_ONCE = 2  # each takes a core, and the memory of a whole picture


class Width(IntEnum):
    """How wide a small picture may be, in pixels."""

    ICON = 160
    SMALL = 320
    MEDIUM = 480
    LARGE = 960


def form_for(accept: str) -> Form:
    """Return WebP for who names it, as browsers do, else JPEG."""
    return Form.WEBP if Form.WEBP.content_type in accept else Form.JPEG


class Thumbnails:
    def __init__(self) -> None:
        self._turns = CapacityLimiter(AT_ONCE)
        # Held by those who wait alone, so that a picture which nobody asks for any more keeps no lock.
        self._making: WeakValueDictionary[str, Lock] = WeakValueDictionary()

    async def get(self, asset: Asset, *, width: int, form: Form, store: MediaStore) -> bytes:
        """Return the small picture, made if it is not there yet. Raise Problem for a file that has none."""
        _require_visible(asset)
        key = _key(asset, width, form)
        kept = await run_sync(_kept, key, store)  # what is kept needs no turn
        if kept is not None:
            return kept
        # Who waits here holds no thread: a page may show a hundred of them.
        async with self._making.setdefault(key, Lock()):
            return await run_sync(_made, key, asset, width, form, store, limiter=self._turns)


def remove_thumbnails(asset: Asset, store: MediaStore) -> None:
    """Remove all small pictures of the file."""
    if asset.content_type in PICTURES | FILMS:
        for width in Width:
            for form in Form:
                store.remove(_key(asset, width, form))


def _key(asset: Asset, width: int, form: Form) -> str:
    # With the file's hash in it, so that what is kept is never another file's.
    return f"thumbnails/{asset.user_id}/{asset.sha256}/{width}.{form}"


def _made(key: str, asset: Asset, width: int, form: Form, store: MediaStore) -> bytes:
    if (kept := _kept(key, store)) is not None:  # by who was faster
        return kept
    made = _make(asset, width, form, store)
    store.write(key, made)
    return made


def _require_visible(asset: Asset) -> None:
    """Raise Problem for what is no picture or film, or what nobody has read to its end."""
    if asset.content_type not in PICTURES | FILMS or asset.width is None:
        raise Problem(
            422,
            f"There is no small picture of this file: it is {asset.content_type}.",
            field="w",
            remedy="Leave w out to fetch the file itself.",
            code="no-thumbnail",
        )


def _kept(key: str, store: MediaStore) -> bytes | None:
    try:
        return store.read(key)
    except Permanent as error:
        if error.code != "media_missing":  # not made yet
            raise
        return None


def _make(asset: Asset, width: int, form: Form, store: MediaStore) -> bytes:
    if asset.content_type in PICTURES:
        return thumbnails.of_picture(store.read(asset.key), width=width, form=form)
    # Here and there, not whole: a film may be of any size, and its first picture is asked for.
    with closing(store.random_access(asset.key, size=asset.bytes)) as file:
        try:
            return thumbnails.of_film(file, width=width, form=form)
        except NeedsHuman as error:
            raise Problem(
                422,
                "This gateway makes no pictures of films: what reads them is not installed.",
                field="w",
                remedy="Leave w out, or have the operator install darkroom-media[film] where the gateway runs.",
                code="no-thumbnail",
            ) from error
