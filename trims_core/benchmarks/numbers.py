"""Numbers written in answers, brought to one form."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Final

NUMBER: Final = re.compile(r"-?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)")
"""An optional sign, optional dollar sign, digits with thousands commas, and a fraction."""


def normalised(text: str) -> str | None:
    """`$1,234.50` → `1234.5`, `18.0` → `18`, `-0` → `0`; None where the text is no plain number."""
    plain = text.strip().rstrip(".").replace(",", "").replace("$", "").removesuffix("%").strip()
    try:
        value = Decimal(plain)
    except InvalidOperation:
        return None
    if not value.is_finite():
        return None
    digits = format(value, "f")
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return "0" if digits in ("-0", "") else digits


def last_number(text: str) -> str | None:
    """The last number in a text, normalised; None where there is none."""
    found = NUMBER.findall(text)
    return normalised(found[-1]) if found else None
