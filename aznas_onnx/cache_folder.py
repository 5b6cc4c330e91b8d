"""The folder in which files are kept from one call to the next; deleting it costs only time."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["FOLDER_VARIABLE", "cache_folder"]

FOLDER_VARIABLE = "AZNAS_CACHE"


def cache_folder() -> Path:
    """Return the folder that AZNAS_CACHE names, or else `aznas-onnx` in the user's cache folder; it need not exist."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else _of_user() / "aznas-onnx"


def _of_user() -> Path:
    home = Path("~").expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    if sys.platform == "darwin":
        return home / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
