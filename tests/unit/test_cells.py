"""Cells as numbers: what is meant, or that it can be meant in two ways."""

from __future__ import annotations

import pytest

from darkroom.batches.cells import Number, number_in
from darkroom.errors import BadInput


@pytest.mark.parametrize("decimal_comma", [True, False])
@pytest.mark.parametrize(
    ("text", "value"), [("1٫234", 1.234), ("١٫٥", 1.5), ("٠٫٧٥٠", 0.75), ("٧٫٠", 7), ("١٢٣", 123), ("1٬23", None)]
)
def test_an_arabic_decimal_sign_is_one_in_every_file(text: str, value: float | None, *, decimal_comma: bool) -> None:
    """Whatever a point and a comma mean there. What separates no thousands is in no number."""
    assert number_in(text, decimal_comma=decimal_comma) == (None if value is None else Number(value=value))


@pytest.mark.parametrize("text", ["1,234.567", "1.234,567", "1'234,567"])
def test_what_may_be_meant_keeps_its_decimal_sign(text: str) -> None:
    """Also before three places, as before any other number of them."""
    with pytest.raises(BadInput, match=r"Write 1234\.567, if"):
        number_in(text, decimal_comma=False)


@pytest.mark.parametrize("decimal_comma", [True, False])
@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("1٬234", "1234"),
        ("١٬٢٣٤٬٥٦٧", "1234567"),
        ("1٬234٫5", "1234.5"),
        ("1.234٫567", "1234.567"),
        ("1,234٫5", "1234.5"),
    ],
)
def test_an_arabic_sign_of_thousands_is_never_a_decimal_one(text: str, meant: str, *, decimal_comma: bool) -> None:
    """As thousands are refused in every other way of writing."""
    with pytest.raises(BadInput, match=rf"Write {meant}, if"):
        number_in(text, decimal_comma=decimal_comma)
