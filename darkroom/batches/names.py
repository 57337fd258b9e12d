"""What columns are called, and text without what nobody sees in it.

Names are compared without case, blanks and marks: “Image size”, `imageSize` and `image_size` are one. What is no name
may be a prompt that has slipped into the header, and is never repeated.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache

ID = "id"
# As shops and databases call it. `id` itself goes before them.
OTHER_IDS = ("product_id", "item_id", "article_id", "record_id", "row_id", "external_id", "sku")
MOST_WORDS = 2  # of a column that nobody knows: more of them may be a prompt
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}(?:\.[A-Za-z_][A-Za-z0-9_]{0,63})?")
_WORDS = re.compile(r"[\s_\-/]+")
_UNNAMED = re.compile(r"unnamed: ?[0-9]+|\.\.\.[0-9]+|#", re.IGNORECASE)  # as pandas and R call it
_SHORTENED = re.compile(r"\.(?=\s|$)")  # "Num. images"
_ASIDE = re.compile(r"[(\[][^()\[\]]*[)\]]$")  # "Image size (px)"
_BETWEEN = re.compile(r"[\s_\-/]")
# Spaces without width, marks of direction and of a hyphen, and the byte order mark. Joiners stay inside of words:
# emoji, Persian and Indian scripts are written with them.
_UNSEEN = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")
_JOINERS = "\u200c\u200d"
_WIDE_SPACES = re.compile("[\u00a0\u2007\u202f]")


def is_name(text: object) -> bool:
    """Return whether the text can be the name of a column or an argument."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def seen(text: str) -> str:
    """Return the text as it is seen: composed, without invisible characters, non-breaking spaces as spaces.

    Blanks at its ends are left out.
    """
    if text.isascii():
        return text.strip()
    # NFC, not NFKC as for names: this may be a prompt, and NFKC turns characters into others.
    shown = _WIDE_SPACES.sub(" ", _UNSEEN.sub("", unicodedata.normalize("NFC", text)))
    # As long as that helps: blanks may stand behind joiners, and joiners behind blanks.
    while shown != (shown := shown.strip().strip(_JOINERS)):
        pass
    return shown


@lru_cache(1024)  # every row of JSON has them anew
def column_name(text: str, known: frozenset[str]) -> str:
    """Return the name of a column as the documentation has it; text that can be no name as it was."""
    shown = _SHORTENED.sub("", unicodedata.normalize("NFKC", seen(text)).strip("\"'“”„‟«»‘’*:").strip())
    if _UNNAMED.fullmatch(shown):
        return ""
    shown = shown.removeprefix("#")  # of a header that is a comment, too
    by_letters = _by_letters(known)
    for written in (shown, _ASIDE.sub("", shown.rstrip())):
        if (name := by_letters.get(_letters(written))) is not None:
            return name
    lowered = shown.casefold()
    if is_name(lowered):
        return lowered
    words = _WORDS.split(lowered)
    joined = "_".join(words)
    return joined if len(words) <= MOST_WORDS and is_name(joined) else shown


def column_names(texts: Iterable[str], known: frozenset[str]) -> list[str]:
    """Return the names of all columns. One that is called after a product's id or the like is `id`, if none is."""
    names = [column_name(text, known) for text in texts]
    others = [name for name in names if name in OTHER_IDS]
    # Of two that may be meant as the id, neither is taken.
    if ID in names or len(others) != 1:
        return names
    return [ID if name == others[0] else name for name in names]


def named(cells: Mapping[str, object], known: frozenset[str]) -> list[tuple[str, object]]:
    """Return the members of an object with the names of columns."""
    return list(zip(column_names(map(str, cells), known), cells.values(), strict=True))


@lru_cache(16)
def _by_letters(known: frozenset[str]) -> Mapping[str, str]:
    return {_letters(name): name for name in (*OTHER_IDS, *known)}


def _letters(text: str) -> str:
    return _BETWEEN.sub("", text.casefold())
