"""The version of the scoring method, which every stored score names."""

from __future__ import annotations

from aznas_onnx.documents import JsonObject, whole

__all__ = ["METHOD_VERSION", "method_of", "other_method"]

METHOD_VERSION = 1
"""The version of the scoring method; docs/method.md has the rule for raising it and the table of versions."""

_FIRST_METHOD = 1  # that of files without a version


def method_of(stored: JsonObject) -> int:
    """Return the version of the scoring method of stored settings; those without one are of version 1."""
    return whole(stored.get("method", _FIRST_METHOD), 1)


def other_method(version: int) -> str:
    """Return the error for scores of another version of the scoring method."""
    return f"of version {version} of the scoring method, and this release scores by version {METHOD_VERSION}"
