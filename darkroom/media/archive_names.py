"""Names of files in archives, as other people's machines write them: made safe, compared, and known for what they are.

Nothing is unpacked to disk, so a name does no harm; but one that leads out of the archive was made to. Windows writes
backslashes, a Mac takes letters apart (NFD), old programs say nothing of their encoding, and every file manager leaves
something of its own behind.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath
from zipfile import ZipInfo

JUNK_FOLDERS = frozenset(
    {
        "__macosx",
        "@eadir",  # Synology
        "#recycle",
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "__pycache__",
    }
)
JUNK_NAMES = frozenset(
    {
        "thumbs.db",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        "picasa.ini",
        "zbthumbnail.info",
        "icon\r",  # of a folder, on a Mac
        "icon_",
        "metadata.jsonl",  # of data sets
        "metadata.csv",
        "metadata.json",
        "dataset_info.json",
        "dataset_infos.json",
        "meta_cap.json",
        "meta_lat.json",
    }
)
JUNK_KINDS = frozenset({".md", ".xmp", ".aae", ".thm", ".lnk", ".url", ".npz"})  # what programs lay beside pictures
JUNK_STREAMS = re.compile(r"(?:zone\.identifier|encryptable|smartscreen|afp_\w+|com\.apple\.[\w.#]+)(?::\$data)?")
PAPERS = re.compile(r"(?:readme|licen[cs]e|copying|changelog)(?:\.(?:txt|rst|html?|rtf|pdf|docx?))?")
SIDECAR = re.compile(r".+\.\w{3,4}(?:\.supplemental-metadata)?\.json")  # Google's, one for each picture

_UTF8 = 0x800  # a flag of an entry: its name is in UTF-8
_UNSAFE = re.compile(r'[\x00-\x1f\x7f:*?"<>|]')
_DRIVE = re.compile(r"[A-Za-z]:")


def said(entry: ZipInfo) -> str:
    """Return the whole name that the archive gives, read as UTF-8 where it can be."""
    name = entry.orig_filename  # `filename` ends at a NUL
    if entry.flag_bits & _UTF8:
        return name
    # A Mac writes UTF-8 and does not say so.
    try:
        return name.encode("cp437").decode()
    except UnicodeError:
        return name


def leads_out(name: str) -> bool:
    parts = _parts(name)
    return not parts[0] or "\0" in name or bool(_DRIVE.match(name)) or any(map(_is_upward, parts))


def safe(name: str) -> str:
    """Return the name as it is shown and compared: slashes, composed letters, nothing that a file system minds."""
    parts = (_UNSAFE.sub("_", unicodedata.normalize("NFC", part)).strip() for part in _parts(name))
    return "/".join(part for part in parts if part not in ("", "."))


def key(name: str) -> str:
    """Return what two names have in common that differ in case or in how their letters are put together."""
    # Again, as folding may take letters apart.
    return unicodedata.normalize("NFC", safe(name).casefold())


def stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix("")) if name else name


def kind(name: str) -> str:
    """Return the ending of a name, in lower case."""
    return PurePosixPath(name).suffix.lower()


def is_junk(name: str) -> bool:
    """Return whether the file is something that file managers, cameras and data sets leave behind."""
    *folders, last = [part.lower() for part in _parts(name) if part not in ("", ".")] or [""]
    base, _, stream = last.partition(":")
    return (
        any(folder in JUNK_FOLDERS or folder.startswith(".") for folder in folders)
        or base.startswith((".", "~$"))  # hidden
        or base in JUNK_NAMES
        or kind(base) in JUNK_KINDS
        or PAPERS.fullmatch(base) is not None
        or SIDECAR.fullmatch(base) is not None
        or (bool(stream) and JUNK_STREAMS.fullmatch(stream) is not None)
        or last.endswith("zone.identifier")
    )


def _parts(name: str) -> list[str]:
    return name.replace("\\", "/").split("/")


def _is_upward(part: str) -> bool:
    # Windows leaves out blanks and dots at a name's end: `.. ` is `..` to it.
    return ".." in part and not part.strip(" .")
