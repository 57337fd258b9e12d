"""The text of a cell as the number or the truth value that is meant, in the ways of spreadsheets and languages.

What can be meant in two ways is refused: a seed of 1,234 is another picture than one of 1.234.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from darkroom.errors import BadInput

# As Excel writes them in the languages it is sold in, and as databases, forms and people do.
_TRUE = (
    *("true", "yes", "y", "t", "1", "1.0", "1,0", "on", "wahr", "ja", "vrai", "oui", "verdadero", "verdadeiro", "vero"),
    *(
        "waar",
        "prawda",
        "tak",
        "истина",
        "да",
        "sí",
        "si",
        "sì",
        "sim",
        "evet",
        "kyllä",
        "是",
        "真",
        "はい",
        "✓",
        "✔",
        "☑",
        "✅",
    ),
)
_FALSE = (
    *("false", "no", "n", "f", "0", "0.0", "0,0", "off", "falsch", "nein", "faux", "non", "falso", "onwaar", "nee"),
    *("fałsz", "nie", "ложь", "нет", "não", "nej", "hayır", "否", "假", "いいえ", "✗", "✘", "☐", "❌"),
)
TRUTHS: Mapping[str, bool] = dict.fromkeys(_TRUE, True) | dict.fromkeys(_FALSE, False)
MISSING = frozenset({"NA", "NULL", "<NA>", "\\N"})  # of R, databases and pandas, where text may be wanted
MISSING_NUMBER = frozenset({"na", "n/a", "null", "none", "nan", "nat", "<na>", "\\n", "-", "–", "—"})
# Of Excel, Google Sheets and, as Err:502, LibreOffice; ### is a column that is too narrow.
_SHEET_ERROR = re.compile(r"#(?:REF!|NAME\?|VALUE!|DIV/0!|NULL!|NUM!|N/A|SPILL!|CALC!|ERROR!|#{2,})|Err:[0-9]{3}")
_PLAIN = re.compile(r"[+-]?(?:[0-9]{1,20}[.,]?|[0-9]{0,20}[.,][0-9]{1,20})")
_SCIENTIFIC = re.compile(r"(?P<digits>[+-]?[0-9]{1,20}(?:[.,](?P<places>[0-9]{1,20}))?)[eE](?P<power>[+-]?[0-9]{1,2})")
# Thousands by a blank (France), a point (Germany), an apostrophe (Switzerland), a comma, or as Python writes them.
_GROUPED = re.compile(
    r"(?P<whole>[+-]?[0-9]{1,3}(?:(?P<mark>[ .,'’_])[0-9]{3})(?:(?P=mark)[0-9]{3})*)(?:[.,](?P<places>[0-9]{1,20}))?"
)
# Minus, decimal and times signs as typesetters and East Asian and Arabic keyboards write them.
# The Arabic sign between thousands becomes one that is never a decimal sign.
_SIGNS: Mapping[str, str] = dict(zip("\u2212－＋．，\u066b\u066cｘＸ×", "--+.,.'xXx", strict=True))
_ARABIC_DECIMAL = "\u066b"
_DATE = re.compile(r"[0-9]{1,2}[-.][A-ZÄa-zéûä]{3,4}\.?|[A-Z][a-z]{2}[-.][0-9]{2}|[0-9]\.[0-9]+E\+[0-9]+")


@dataclass(frozen=True, kw_only=True)
class Number:
    """`cut`: it has fewer digits than its size, as when a spreadsheet shortens a long number."""

    value: int | float
    cut: bool = False


def number_in(text: str, *, decimal_comma: bool) -> Number | None:
    """Return the number that the text is; None if it is none. Raises BadInput for one with separators of thousands."""
    if _ARABIC_DECIMAL in text:
        # It means nothing else, whatever a point and a comma mean in the rest of the file: here they part thousands.
        text, decimal_comma = re.sub("[.,．，]", "'", text), False
    text = narrow(text)
    grouped = _GROUPED.fullmatch(text)
    if grouped is not None and _is_grouped(text, mark=grouped["mark"], decimal_comma=decimal_comma):
        meant = grouped["whole"].replace(grouped["mark"], "") + (f".{grouped['places']}" if grouped["places"] else "")
        raise BadInput(f"writes {text} with a separator of thousands. Write {meant}, if that is meant.")
    if (scientific := _SCIENTIFIC.fullmatch(text)) is not None:
        power = int(scientific["power"])
        if power > 20:
            return None
        value = Decimal(scientific["digits"].replace(",", ".")).scaleb(power)
        # 1.23457E+11 names six of its twelve digits: a spreadsheet has shortened it.
        return Number(value=_plain(value), cut=len(scientific["places"] or "") < power)
    return Number(value=_plain(Decimal(text.replace(",", ".")))) if _PLAIN.fullmatch(text) else None


def narrow(text: str) -> str:
    """Return the digits and signs of any script as those of ASCII; what is none stays as it is."""
    return text if text.isascii() else "".join(map(_narrow, text))


def _narrow(sign: str) -> str:
    digit = unicodedata.decimal(sign, None)
    return _SIGNS.get(sign, sign) if digit is None else str(digit)


def is_sheet_error(text: str) -> bool:
    """Return whether a spreadsheet shows this where a formula went wrong, or a column is too narrow."""
    return _SHEET_ERROR.fullmatch(text) is not None


def looks_changed(id: str) -> bool:
    """Return whether a spreadsheet may have made this of an id: a date of 1-3, 1.2E+05 of 12E4."""
    return _DATE.fullmatch(id) is not None


def _is_grouped(text: str, *, mark: str, decimal_comma: bool) -> bool:
    """Return whether the mark separates thousands. Where one may as well be a decimal sign, it is that."""
    once = mark in ".," and text.count(",") + text.count(".") == 1
    if not once or not _is_decimal_then(text):
        # 1.234 is a thousand where a comma is the decimal sign, and may be a fraction where a point is.
        return not (once and mark == ("," if decimal_comma else "."))
    return False


def _is_decimal_then(text: str) -> bool:
    """Tell whether it is a fraction: nobody writes a thousand with a zero in front, as 0,750."""
    return text.lstrip("+-").startswith("0")


def _plain(value: Decimal) -> Any:
    # 7.0 is meant as 7: pandas writes a column of whole numbers so if it has gaps.
    return int(value) if value == value.to_integral_value() else float(value)
