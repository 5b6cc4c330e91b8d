"""Counts as people write them: ``600M``, ``1.2G``, ``5.9M``."""

from __future__ import annotations

import re
from decimal import Decimal
from numbers import Integral

from aznas_onnx.errors import SettingsError

__all__ = ["format_bytes", "format_count", "parse_count", "read_count"]

_FACTORS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BYTE_UNITS = ("KiB", "MiB", "GiB", "TiB")
_PATTERN = re.compile(r"(\d{1,24}(?:\.\d{1,24})?)\s?([KMGT]?)", re.IGNORECASE | re.ASCII)


def parse_count(text: str) -> int:
    """Read a count.

    Parameters
    ----------
    text
        Digits with an optional decimal point and an optional K, M, G or T (powers of 1,000, in either case).

    Returns
    -------
    int
        The exact count: ``1.2G`` is 1,200,000,000.

    Raises
    ------
    SettingsError
        If the text is not a count, or not a whole one (``1.5``, ``0.0001K``).

    Examples
    --------
    >>> parse_count("600M")
    600000000
    """
    match = _PATTERN.fullmatch(text.strip())
    if match is None:
        raise SettingsError(
            f"{text!r} is not a count; write digits with an optional K, M, G or T, such as 600M or 1.2G"
        )
    number = Decimal(match[1]) * _FACTORS[match[2].upper()]
    if number != int(number):
        raise SettingsError(f"{text!r} is {number:f}, which is not a whole number")
    return int(number)


def read_count(name: str, given: object) -> int | None:
    """Return a count that is an integer or a text, or None; raise SettingsError for anything else."""
    if given is None or isinstance(given, str):
        return None if given is None else parse_count(given)
    if isinstance(given, bool) or not isinstance(given, Integral):
        raise SettingsError(f"{name} is {given!r}; a whole number or a text such as '600M' is accepted")
    return int(given)


def format_count(count: int) -> str:
    """Write a count with at most four significant digits.

    Counts of at most four digits are exact; :func:`parse_count` reads back what this writes.

    Examples
    --------
    >>> format_count(600_000_000), format_count(4_089_184_256), format_count(1_000)
    ('600M', '4.089G', '1K')
    """
    if abs(count) < 1000:
        return str(count)
    rounded = Decimal(count).normalize() if abs(count) < 10_000 else Decimal(f"{count:.3e}")
    factor = next(name for name in reversed(_FACTORS) if abs(rounded) >= _FACTORS[name])
    return f"{(rounded / _FACTORS[factor]).normalize():f}{factor}"


def format_bytes(size_bytes: int) -> str:
    """Write a size in binary units with three significant digits.

    Examples
    --------
    >>> format_bytes(512), format_bytes(44_957_696)
    ('512 B', '42.9 MiB')
    """
    if size_bytes < 1024:
        return f"{size_bytes} B"
    size = float(size_bytes)
    for unit in _BYTE_UNITS:
        size /= 1024
        if size < 999.5 or unit == _BYTE_UNITS[-1]:
            break
    decimals = 2 if size < 9.995 else 1 if size < 99.95 else 0
    return f"{size:.{decimals}f} {unit}"
