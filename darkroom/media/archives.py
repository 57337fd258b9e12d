"""Zip archives of pictures and their captions: read as if somebody meant harm, and written always alike.

Nothing is ever unpacked to disk. The directory of an archive is bounded before it is parsed, what it says of its
entries before they are read, and what comes out of them while it comes. What is wrong with single files is collected
as flaws, so that who sends forty pictures hears of all that are wrong at once.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePosixPath
from typing import IO, cast

from darkroom.errors import BadInput

MIB = 1024 * 1024
MOST_ENTRIES = 200
MOST_BYTES = 500 * MIB  # of all entries, unpacked
MOST_RATIO = 100  # of an entry's size to what it takes in the archive; pictures hardly shrink at all
DIRECTORY_BYTES = MIB  # enough for thousands of entries, and all that zipfile may read to open an archive
LARGEST_IMAGE = 20 * MIB
LONGEST_CAPTION = 2000  # characters
MOST_NAMED = 60  # flaws in one error

CAPTION = ".txt"
PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
ARCHIVES = frozenset({".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst", ".jar"})
JUNK_FOLDERS = frozenset({"__MACOSX"})
JUNK_NAMES = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})

# bzip2 and LZMA are left out on purpose: zipfile decompresses whole blocks of those at once, past any bound.
METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # flags: the entry, the entry strongly, the directory
_BROKEN = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, NotImplementedError, ValueError)
_EPOCH = (1980, 1, 1, 0, 0, 0)  # zip's own


@dataclass(frozen=True, kw_only=True)
class NamedImage:
    """A picture as it came, with the name that its sender knows it by. Nothing of it is verified yet."""

    name: str
    content: bytes
    caption: str | None = None


@dataclass(frozen=True, kw_only=True)
class Flaw:
    """What is wrong with one file; the reason goes on from the name: "is encrypted"."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What an archive holds: pictures in the order of their names, and what is wrong with other files."""

    images: tuple[NamedImage, ...]
    flaws: tuple[Flaw, ...]


def read_archive(file: IO[bytes], *, field: str = "archive") -> Contents:
    """Read the pictures of a zip with their captions.

    Raise BadInput(field) for what is no archive that may be read.
    """
    with _opened(file, field=field) as archive:
        entries = _entries(archive, archive_bytes=_size(file), field=field)
        if flaws := _flaws(entries):
            return Contents(images=(), flaws=tuple(flaws))
        return _with_captions({entry.filename: _read(archive, entry, field=field) for entry in entries})


def check_archive(file: IO[bytes], *, field: str = "archive") -> None:
    """Read each entry to its end and keep none. Raise BadInput(field), which names every file that is wrong."""
    with _opened(file, field=field) as archive:
        entries = _entries(archive, archive_bytes=_size(file), field=field)
        if flaws := _flaws(entries):
            raise listed(flaws, field=field)
        for entry in entries:
            _read(archive, entry, field=field)


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


def check_caption(caption: str) -> str:
    """Strip the space around the caption. Raise BadInput, whose message goes on from a file's name."""
    if len(caption) > LONGEST_CAPTION:
        raise BadInput(f"is a caption of more than {LONGEST_CAPTION} characters")
    if "\0" in caption:
        raise BadInput("is no text")
    return caption.strip()


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


class _Bounded:
    """A file of which each read is bounded, while zipfile reads the directory: that it takes in one piece.

    So however long a directory is said to be, and by whichever of its two end records, it is never in memory.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.bounded = True

    def read(self, size: int = -1) -> bytes:
        if not self.bounded:
            return self._file.read(size)
        content = self._file.read(DIRECTORY_BYTES + 1 if size < 0 else min(size, DIRECTORY_BYTES + 1))
        if len(content) > DIRECTORY_BYTES:
            raise zipfile.LargeZipFile("its directory is too large")
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True


@contextmanager
def _opened(file: IO[bytes], *, field: str) -> Iterator[zipfile.ZipFile]:
    bounded = _Bounded(file)
    try:
        archive = zipfile.ZipFile(cast(IO[bytes], bounded))
    except zipfile.LargeZipFile as error:
        raise _too_many(field) from error
    except _BROKEN as error:
        raise BadInput("It is no zip archive that can be read: make it anew.", field=field) from error
    bounded.bounded = False
    with archive:
        yield archive


def _size(file: IO[bytes]) -> int:
    return file.seek(0, 2)


# -- what entries say of themselves ----------------------------------------------------------------------------------


def _entries(archive: zipfile.ZipFile, *, archive_bytes: int, field: str) -> list[zipfile.ZipInfo]:
    """Return the entries that matter, in the order of their names. Raise BadInput where they are too many or large.

    `_read` sees to it that they are no larger than they say.
    """
    entries = [entry for entry in archive.infolist() if not _is_junk(entry)]
    total = sum(entry.file_size for entry in entries)
    if len(entries) > MOST_ENTRIES:
        raise _too_many(field)
    if total > MOST_BYTES:
        raise BadInput(f"Unpacked, the archive has more than {MOST_BYTES // MIB} MiB.", field=field)
    if total > MOST_RATIO * archive_bytes:  # entries that share their bytes look harmless one by one
        raise BadInput(f"The archive unpacks to more than {MOST_RATIO} times its size.", field=field)
    return sorted(entries, key=lambda entry: entry.filename)


def _is_junk(entry: zipfile.ZipInfo) -> bool:
    """Return whether the entry is something that file managers leave behind, or a plain folder."""
    parts = PurePosixPath(entry.filename).parts
    if any(part in JUNK_FOLDERS for part in parts[:-1]) or (parts and parts[-1] in JUNK_NAMES):
        return True
    return entry.is_dir() and not entry.file_size and _file_type(entry) in (0, stat.S_IFDIR)


def _file_type(entry: zipfile.ZipInfo) -> int:
    return stat.S_IFMT(entry.external_attr >> 16)


def _flaws(entries: Sequence[zipfile.ZipInfo]) -> list[Flaw]:
    names = [entry.filename for entry in entries]
    flaws = [Flaw(name=name, reason="is there twice") for name in sorted({n for n in names if names.count(n) > 1})]
    wrong = [(entry.orig_filename, _wrong_with(entry)) for entry in entries]
    return flaws + [Flaw(name=name, reason=reason) for name, reason in wrong if reason]


def _wrong_with(entry: zipfile.ZipInfo) -> str | None:
    kind = PurePosixPath(entry.filename).suffix.lower()
    rules = (
        # What it says, where zipfile would cut the name at a NUL.
        (_leads_out(entry.orig_filename), "has a name that leads out of the archive"),
        (_file_type(entry) not in (0, stat.S_IFREG), "is a link or a device, not a file"),
        (entry.flag_bits & _ENCRYPTED, "is encrypted"),
        (entry.compress_type not in METHODS, "is packed in another way than zip's usual one"),
        (kind in ARCHIVES, "is an archive inside the archive"),
        (kind not in PICTURES | {CAPTION}, "is neither a JPEG, PNG or WebP picture nor a caption (.txt)"),
        (entry.file_size > MOST_RATIO * entry.compress_size, f"unpacks to more than {MOST_RATIO} times its size"),
        (kind == CAPTION and entry.file_size > 4 * LONGEST_CAPTION, "is too long for a caption"),
        (kind in PICTURES and entry.file_size > LARGEST_IMAGE, f"has more than {LARGEST_IMAGE // MIB} MiB"),
    )
    return next((reason for applies, reason in rules if applies), None)


def _leads_out(name: str) -> bool:
    parts = name.split("/")
    return not parts[0] or ".." in parts or any(sign in name for sign in ("\\", ":", "\0"))


def _too_many(field: str) -> BadInput:
    return BadInput(f"The archive has more than {MOST_ENTRIES} entries.", field=field)


# -- what is in them -------------------------------------------------------------------------------------------------


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, *, field: str) -> bytes:
    """Read the whole entry.

    zipfile stops at the size it declares and compares the checksum then: a lie is an error.
    """
    try:
        with archive.open(entry) as source:
            return source.read(entry.file_size + 1)
    except _BROKEN as error:
        raise BadInput(f"{shown(entry.filename)} is damaged: make the archive anew.", field=field) from error


def _with_captions(files: Mapping[str, bytes]) -> Contents:
    pictures = {name: content for name, content in files.items() if not _is_caption(name)}
    stems = {_stem(name) for name in pictures}
    captions, flaws = dict[str, str](), list[Flaw]()
    for name in filter(_is_caption, files):
        if _stem(name) not in stems:
            flaws.append(Flaw(name=name, reason="is the caption of no picture: none has its name"))
            continue
        try:
            captions[_stem(name)] = check_caption(files[name].decode("utf-8-sig"))
        except UnicodeDecodeError:
            flaws.append(Flaw(name=name, reason="is not UTF-8 text"))
        except BadInput as error:
            flaws.append(Flaw(name=name, reason=error.message))
    images = [
        NamedImage(name=name, content=content, caption=captions.get(_stem(name))) for name, content in pictures.items()
    ]
    return Contents(images=tuple(images), flaws=tuple(flaws))


def _is_caption(name: str) -> bool:
    return name.lower().endswith(CAPTION)


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))
