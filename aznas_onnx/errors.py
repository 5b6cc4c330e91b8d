"""The errors of the library.

Every message has the value found, its place (file, node, operator) and the accepted values. The command line prints the
message as one sentence and exits with code 2; an exception that is not an :class:`AznasError` is a bug and keeps its
traceback.
"""

from __future__ import annotations

__all__ = [
    "AznasError",
    "ModelError",
    "SettingsError",
    "UnknownNameError",
    "UnsupportedOperatorError",
    "first_line",
]


class AznasError(Exception):
    """Root of all errors raised on purpose by this package."""


class ModelError(AznasError, ValueError):
    """A model cannot be read, checked, or given shapes."""


class UnsupportedOperatorError(ModelError, NotImplementedError):
    """A model is valid but uses an operator that cannot be scored."""


class SettingsError(AznasError, ValueError):
    """An argument or option has a value that is not accepted."""


class UnknownNameError(AznasError, LookupError):
    """A name (proxy, space, block pattern) is not registered."""


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, or the name of its type where the message is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
