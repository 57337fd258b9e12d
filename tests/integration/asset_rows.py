"""Files on record and in a store, as jobs and uploads leave them, without a provider."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from decimal import Decimal
from functools import cache
from typing import Any

from PIL import Image

from darkroom.ledger import Asset, JobStatus, Labels, Ledger, NewKey, RequestSpec, StoredFile, new_id
from darkroom.media.store import MediaStore

EXTENSIONS = {"image/png": "png", "video/mp4": "mp4", "audio/mpeg": "mp3", "model/gltf-binary": "glb"}


@cache
def picture(colour: str = "#b4522d", size: tuple[int, int] = (640, 480)) -> bytes:
    """A PNG of one colour, with a lighter circle's worth of something in it."""
    written = io.BytesIO()
    image = Image.new("RGB", size, colour)
    image.paste(Image.radial_gradient("L").resize(size).convert("RGB"), mask=Image.new("L", size, 70))
    image.save(written, "PNG")
    return written.getvalue()


def made(
    ledger: Ledger,
    store: MediaStore,
    key: NewKey,
    *,
    prompt: str,
    model: str,
    tags: Sequence[str] = (),
    content_type: str = "image/png",
    content: bytes | None = None,
    name: str | None = None,
    within_input: bool = False,
    ended: bool = True,
    size: tuple[int, int] | None = None,
    seconds: float | None = None,
) -> Asset:
    """A file that a job has made. `within_input`: the job runs a model by its own input. `name`: its key, if given."""
    content = picture() if content is None else content
    spec = RequestSpec(step="generate", endpoint=model, input={"prompt": prompt}, estimate_usd=Decimal("0.025"))
    parameters: dict[str, Any] = {"model": model, "input": {"prompt": prompt}} if within_input else {"prompt": prompt}
    kind = "run-model" if within_input else "generate-image"
    posted = ledger.jobs.post(
        user_id=key.user_id, kind=kind, parameters=parameters, first=spec, labels=Labels(tags=tuple(tags))
    )
    (request,) = ledger.requests.of_job(posted.job.id)
    at = name or f"images/{key.user_id}/{posted.job.id}/generate-0.{EXTENSIONS[content_type]}"
    store.write(at, content)
    file = _file(at, content, content_type, size=size, seconds=seconds)
    asset = ledger.assets.add(posted.job, ref=request.ref, step="generate", n=0, file=file)
    if ended:
        ledger.jobs.finish(posted.job.id, JobStatus.COMPLETED)
    return asset


def brought(ledger: Ledger, store: MediaStore, key: NewKey) -> Asset:
    """A picture that its user has brought."""
    asset_id = new_id("ast_")
    at = f"uploads/{key.user_id}/{asset_id}.png"
    content = picture("#2d6fb4")
    store.write(at, content)
    file = _file(at, content, "image/png", size=None, seconds=None)
    return ledger.assets.add_upload(key.user_id, asset_id=asset_id, file=file)


def _file(
    key: str, content: bytes, content_type: str, *, size: tuple[int, int] | None, seconds: float | None
) -> StoredFile:
    width, height = size or ((640, 480) if content_type.startswith("image/") else (None, None))
    return StoredFile(
        key=key,
        sha256=hashlib.sha256(content).hexdigest(),
        content_type=content_type,
        bytes=len(content),
        width=width,
        height=height,
        seconds=seconds,
    )
