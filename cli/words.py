"""Plural forms, and docstrings as plain text."""

from __future__ import annotations

import re

__all__ = ["plural", "without_markup"]

_ROLE = re.compile(r":(?:py:)?[a-z]+:`~?(?:[\w.]+\.)?(\w+)`")


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 block``, ``3 blocks``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def without_markup(docstring: str) -> str:
    """Return a docstring as a person reads it: cross-references become names, literals lose their backticks."""
    return _ROLE.sub(r"\1", docstring).replace("``", "")
