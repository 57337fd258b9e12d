"""Zip archives of pictures and their captions: read as if somebody meant harm, and written always alike.

Nothing is ever unpacked to disk. The directory of an archive is bounded before it is parsed, what it says of its
entries before they are read, and what comes out of them while it comes. A file is what its bytes say, whatever its
name. What is wrong with single files is collected as flaws, so that who sends forty pictures hears of all that are
wrong at once; what was passed over, or read in one way where there are two, is in the notes.
"""

from __future__ import annotations

import stat
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import IO

from darkroom.errors import BadInput
from darkroom.media.archive_names import is_junk, kind, leads_out, safe, said
from darkroom.media.captions import CAPTIONS, LARGEST_CAPTION, LONGEST_CAPTION, pair, read_caption
from darkroom.media.formats.pictures import is_picture
from darkroom.media.formats.zips import BROKEN, open_zip
from darkroom.strange_bytes import TELLING_BYTES, other_file

__all__ = ["LONGEST_CAPTION", "Contents", "Flaw", "NamedImage", "check_archive", "read_archive", "write_archive"]

MIB = 1024 * 1024
MOST_ENTRIES = 200
MOST_BYTES = 500 * MIB  # of all entries, unpacked
MOST_RATIO = 100  # of an entry's size to what it takes in the archive; pictures hardly shrink at all
DIRECTORY_BYTES = MIB  # enough for thousands of entries, and all that zipfile may read to open an archive
LARGEST_IMAGE = 20 * MIB
MOST_NAMED = 60  # flaws in one error, and notes in one answer
HEAD_BYTES = 64  # of a file, which tell its kind

PICTURES = frozenset(
    {
        *(".jpg", ".jpeg", ".jfif", ".jpe", ".pjpeg", ".png", ".webp"),
        *(".heic", ".heif", ".hif", ".avif", ".gif", ".tif", ".tiff", ".bmp", ".dib"),
    }
)
ARCHIVES = frozenset({".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst", ".jar"})
ARCHIVE_HEADS = (b"PK\x03\x04", b"PK\x05\x06", b"Rar!\x1a\x07", b"7z\xbc\xaf\x27\x1c", b"\x1f\x8b", b"\xfd7zXZ\0")

# bzip2 and LZMA are left out on purpose: zipfile decompresses whole blocks of those at once, past any bound.
METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # flags: the entry, the entry strongly, the directory
_EPOCH = (1980, 1, 1, 0, 0, 0)  # zip's own


@dataclass(frozen=True, kw_only=True)
class NamedImage:
    """A picture as it came, with the name that its sender knows it by. Nothing of it is verified yet."""

    name: str
    content: bytes
    caption: str | None = None


@dataclass(frozen=True, kw_only=True)
class Flaw:
    """What is wrong with one file, or to be told of it; the reason goes on from the name: "is encrypted"."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What an archive holds: pictures in the order of their names, and what is wrong with other files.

    `notes`: what was passed over, and what was read in one way where there are two.
    """

    images: tuple[NamedImage, ...]
    flaws: tuple[Flaw, ...]
    notes: tuple[Flaw, ...] = ()


def read_archive(file: IO[bytes], *, field: str = "archive") -> Contents:
    """Read the pictures of a zip with their captions.

    Raise BadInput(field) for what is no archive that may be read.
    """
    return _contents(file, field=field, keep=True)


def check_archive(file: IO[bytes], *, field: str = "archive") -> list[str]:
    """Read each entry to its end, keep none, and return what is to be told of them.

    Raise BadInput(field), which names every file that is wrong.
    """
    contents = _contents(file, field=field, keep=False)
    if contents.flaws:
        raise listed(contents.flaws, field=field)
    return told(contents.notes)


def write_archive(files: Iterable[tuple[str, bytes]]) -> bytes:
    """Write a zip of those names and contents. The same files in the same order give the same bytes."""
    target = BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files:
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3  # Unix, wherever it is made
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, content)  # stored as it is: a picture does not shrink
    return target.getvalue()


def told(notes: Sequence[Flaw]) -> list[str]:
    """Return the notes as sentences, up to `MOST_NAMED` of them."""
    named = [f"{shown(note.name)} {note.reason}." for note in notes[:MOST_NAMED]]
    return [*named, f"And {len(notes) - MOST_NAMED} more."] if len(notes) > MOST_NAMED else named


def listed(flaws: Sequence[Flaw], *, field: str) -> BadInput:
    """Return one error that names every file and what is wrong with it, up to `MOST_NAMED` of them."""
    named = "; ".join(f"{shown(flaw.name)} {flaw.reason}" for flaw in flaws[:MOST_NAMED])
    more = f"; and {len(flaws) - MOST_NAMED} more" if len(flaws) > MOST_NAMED else ""
    count, remedy = ("One file", "it") if len(flaws) == 1 else (f"{len(flaws)} files", "them")
    return BadInput(
        f"{count} cannot be used: {named}{more}. Replace {remedy} or leave {remedy} out.", field=field, code="bad_files"
    )


def shown(name: str) -> str:
    """Make a name from outside fit for an error: bounded, and without what a terminal would act on."""
    plain = "".join(sign if sign.isprintable() else "?" for sign in name)
    return plain if len(plain) <= 80 else f"{plain[:40]}…{plain[-39:]}"


# -- opening ---------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(file: IO[bytes], *, field: str) -> Iterator[zipfile.ZipFile]:
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(open_zip(file, most_list_bytes=DIRECTORY_BYTES))
        except zipfile.LargeZipFile as error:
            raise _too_many(field) from error
        except BROKEN as error:
            file.seek(0)
            head = file.read(TELLING_BYTES)
            other = None if head.startswith(b"PK\x03\x04") else other_file(head)
            but = f", but {other}" if other else ""
            raise BadInput(f"It is no zip archive that can be read{but}: make it anew.", field=field) from error
        yield archive


def _size(file: IO[bytes]) -> int:
    return file.seek(0, 2)


def _contents(file: IO[bytes], *, field: str, keep: bool) -> Contents:
    with _opened(file, field=field) as archive:
        found = [_Entry(info) for info in archive.infolist()]
        outward = [entry for entry in found if leads_out(entry.said)]
        inside = [entry for entry in found if not leads_out(entry.said) and not entry.is_folder()]
        junk = [entry for entry in inside if is_junk(entry.said)]
        entries = sorted((entry for entry in inside if not is_junk(entry.said)), key=lambda entry: entry.name)
        _require_bounds(entries, archive_bytes=_size(file), field=field)
        flaws = [*(Flaw(name=entry.said, reason="has a name that leads out of the archive") for entry in outward)]
        flaws += _flaws(archive, entries, field=field)
        notes = [Flaw(name=entry.said, reason="was passed over") for entry in junk]
        if flaws:
            return Contents(images=(), flaws=tuple(flaws), notes=tuple(notes))
        return _read_all(archive, entries, notes, field=field, keep=keep)


# -- what entries say of themselves ----------------------------------------------------------------------------------


class _Entry:
    """A file in the archive: what it is called there (`said`), and here (`name`)."""

    def __init__(self, info: zipfile.ZipInfo) -> None:
        self.info = info
        self.said = said(info)
        self.name = safe(self.said)
        self.kind = kind(self.name)

    def is_folder(self) -> bool:
        ends = self.said.endswith(("/", "\\")) and not self.info.file_size
        # A link may call itself a folder.
        return ends and self.file_type() in (0, stat.S_IFDIR)

    def file_type(self) -> int:
        return stat.S_IFMT(self.info.external_attr >> 16)


def _require_bounds(entries: Sequence[_Entry], *, archive_bytes: int, field: str) -> None:
    """Raise BadInput where the entries that matter are too many or too large."""
    # What they say of their size is enough: `_read` sees to it that they are no larger.
    total = sum(entry.info.file_size for entry in entries)
    if len(entries) > MOST_ENTRIES:
        raise _too_many(field)
    if total > MOST_BYTES:
        raise BadInput(f"Unpacked, the archive has more than {MOST_BYTES // MIB} MiB.", field=field)
    if total > MOST_RATIO * archive_bytes:  # entries that share their bytes look harmless one by one
        raise BadInput(f"The archive unpacks to more than {MOST_RATIO} times its size.", field=field)


def _flaws(archive: zipfile.ZipFile, entries: Sequence[_Entry], *, field: str) -> list[Flaw]:
    names = Counter(entry.name for entry in entries)
    flaws = [Flaw(name=name, reason="is there twice") for name in sorted(names) if names[name] > 1]
    for entry in entries:
        if (reason := _wrong_with(entry) or _wrong_inside(archive, entry, field=field)) is not None:
            flaws.append(Flaw(name=entry.said, reason=reason))
    return flaws


def _wrong_with(entry: _Entry) -> str | None:
    """Return what is wrong with the entry by what it says, before anything of it is read."""
    info = entry.info
    rules = (
        (entry.file_type() not in (0, stat.S_IFREG), "is a link or a device, not a file"),
        (bool(info.flag_bits & _ENCRYPTED), "is encrypted"),
        (info.compress_type not in METHODS, "is packed in another way than zip's usual one"),
        (entry.kind in ARCHIVES, "is an archive inside the archive"),
        (info.file_size > MOST_RATIO * info.compress_size, f"unpacks to more than {MOST_RATIO} times its size"),
        (entry.kind in CAPTIONS and info.file_size > LARGEST_CAPTION, "is too long for a caption"),
    )
    return next((reason for applies, reason in rules if applies), None)


def _wrong_inside(archive: zipfile.ZipFile, entry: _Entry, *, field: str) -> str | None:
    """Return what is wrong with the entry by its first bytes: its name may say anything, or nothing."""
    if entry.kind in CAPTIONS:
        return None
    head = _read(archive, entry, HEAD_BYTES, field=field)
    if head.startswith(ARCHIVE_HEADS):
        return "is an archive inside the archive"
    if entry.kind not in PICTURES and not is_picture(head):
        return "is neither a JPEG, PNG or WebP picture (or HEIC, AVIF, GIF, TIFF, BMP) nor a caption (.txt)"
    return f"has more than {LARGEST_IMAGE // MIB} MiB" if entry.info.file_size > LARGEST_IMAGE else None


def _too_many(field: str) -> BadInput:
    return BadInput(f"The archive has more than {MOST_ENTRIES} entries.", field=field)


# -- what is in them -------------------------------------------------------------------------------------------------


def _read(archive: zipfile.ZipFile, entry: _Entry, most_bytes: int | None = None, *, field: str) -> bytes:
    """Read the whole entry, or its beginning."""
    try:
        with archive.open(entry.info) as source:
            # One byte more than declared: zipfile stops at the declared size and compares the checksum there.
            return source.read(entry.info.file_size + 1 if most_bytes is None else most_bytes)
    except BROKEN as error:
        raise BadInput(f"{shown(entry.said)} is damaged: make the archive anew.", field=field) from error


def _read_all(
    archive: zipfile.ZipFile, entries: Sequence[_Entry], notes: Sequence[Flaw], *, field: str, keep: bool
) -> Contents:
    pictures, captions = dict[str, bytes](), dict[str, str]()
    flaws, notes = list[Flaw](), [*notes]
    for entry in entries:
        content = _read(archive, entry, field=field)
        if entry.kind not in CAPTIONS:
            pictures[entry.name] = content if keep else b""
            continue
        try:
            captions[entry.name], how = read_caption(content)
        except BadInput as error:
            flaws.append(Flaw(name=entry.said, reason=error.message))
        else:
            notes += [Flaw(name=entry.said, reason=how)] if how else []
    paired = pair(captions, list(pictures))
    notes += [Flaw(name=name, reason=reason) for name, reason in paired.told]
    images = [
        NamedImage(name=name, content=content, caption=paired.captions.get(name)) for name, content in pictures.items()
    ]
    return Contents(images=tuple(images), flaws=tuple(flaws), notes=tuple(notes))
