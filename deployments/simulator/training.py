"""The trainer: a zip of pictures becomes the weights of a LoRA and the file that says how they came about."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath

from PIL import Image

from .bench import Bench, Made, Source
from .book import Entry
from .retouching import opened
from .sizes import Arguments
from .weights import palette_of_pictures, weights

_MIN_PICTURES = 4  # by fal's page of the trainer
_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")
_ARCHIVES = (".zip",)  # fal also takes .tar.gz
_MAX_PICTURE_BYTES = 64 * 1024**2
_SAMPLE_EDGE = 64
# What the zip module says of archives it cannot read, which depends on what is broken.
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError)


async def train(bench: Bench, entry: Entry, arguments: Arguments) -> Made:
    """Charged by the run."""
    source = bench.read(entry, arguments["images_data_url"], place=("images_data_url",))
    trained = await bench.work(_weights, source, arguments)
    config = json.dumps(_config(arguments), indent=2).encode()
    body = {
        "diffusers_lora_file": bench.publish_file(
            entry, trained, content_type="application/octet-stream", name="pytorch_lora_weights.safetensors"
        ),
        "config_file": bench.publish_file(entry, config, content_type="application/octet-stream", name="config.json"),
    }
    return Made(body=body, billable_units="1")


def _weights(source: Source, arguments: Arguments) -> bytes:
    archive = hashlib.sha256(source.content).hexdigest()
    seed = f"{archive}/{arguments.get('trigger_word')}/{arguments['steps']}"
    return weights(seed=seed, palette=palette_of_pictures(list(_pictures(source))))


def _pictures(source: Source) -> Iterator[Image.Image]:
    """Yield small copies of the pictures. Raise Rejection."""
    # One after the other: an archive may be large.
    try:
        with zipfile.ZipFile(io.BytesIO(source.content)) as archive:
            entries = [entry for entry in archive.infolist() if _is_picture(entry)]
            _check_number(source, len(entries))
            for entry in entries:
                # As the archive states it, before anything is unpacked.
                if entry.file_size > _MAX_PICTURE_BYTES:
                    raise source.refused("file_too_large", max_size=_MAX_PICTURE_BYTES)
                picture = opened(Source(content=archive.read(entry), url=source.url, place=source.place))
                picture.thumbnail((_SAMPLE_EDGE, _SAMPLE_EDGE))
                yield picture
    except _UNREADABLE as error:
        raise source.refused("invalid_archive", supported_extensions=list(_ARCHIVES)) from error


def _is_picture(entry: zipfile.ZipInfo) -> bool:
    """Tell whether it is one of the pictures to learn from."""
    # Not the masks that a client may add, nor what macOS adds by itself.
    path = PurePosixPath(entry.filename)
    is_own = not path.stem.endswith("_mask") and "__MACOSX" not in path.parts
    return is_own and not entry.is_dir() and path.suffix.lower() in _EXTENSIONS


def _check_number(source: Source, found: int) -> None:
    if found >= _MIN_PICTURES:
        return
    wanted = f"{_MIN_PICTURES} files with extensions {', '.join(_EXTENSIONS)}"
    raise source.refused(
        "archive_file_count_below_minimum",
        message=f"Too few files in the archive. Expected at least {wanted}, found {found}. Add more matching files "
        "to the archive.",
        min_count=_MIN_PICTURES,
        provided_count=found,
        supported_extensions=list(_EXTENSIONS),
    )


def _config(arguments: Arguments) -> dict[str, object]:
    return {
        "base_model": "black-forest-labs/FLUX.1-dev",
        "instance_prompt": arguments.get("trigger_word"),
        "trigger_word": arguments.get("trigger_word"),
        "steps": arguments["steps"],
        "is_style": arguments["is_style"],
        "create_masks": arguments["create_masks"] and not arguments["is_style"],
    }
