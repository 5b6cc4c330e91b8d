"""Software versions, for provenance."""

from __future__ import annotations

import contextlib
import platform
from importlib import metadata

__all__ = ["software_versions"]

_PACKAGES = ("aznas-onnx", "torch", "onnx", "numpy")


def software_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide what scores are."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions
