"""Text that is safe to show: names in a stranger's model must not steer the terminal."""

from __future__ import annotations

import re

__all__ = ["plural", "printable", "without_markup"]

_ROLE = re.compile(r":(?:py:)?[a-z]+:`~?(?:[\w.]+\.)?(\w+)`")


def printable(text: str) -> str:
    """Return `text` on one line, with control characters written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 block``, ``3 blocks``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def without_markup(docstring: str) -> str:
    """Return a docstring as a person reads it: cross-references become names, literals lose their backticks."""
    return _ROLE.sub(r"\1", docstring).replace("``", "")
