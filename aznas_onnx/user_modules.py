"""Execute Python files of users, which define a space or a proxy."""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from aznas_onnx.errors import SettingsError

__all__ = ["RAISED", "execute", "place", "summary"]

RAISED = (Exception, SystemExit)
"""Exceptions of user code, which cost only its own result and do not end the command."""

_OURS = str(Path(__file__).parent)


def execute(path: Path, kind: str) -> ModuleType:
    """Execute a file, once while it is unchanged, and return its names; raise SettingsError if it fails."""
    try:
        changed_ns = path.stat().st_mtime_ns
    except OSError as error:
        raise SettingsError(f"{kind} file {path} cannot be read: {error.strerror or error}") from error
    if not path.is_file():
        raise SettingsError(f"{kind} file {path} cannot be read: it is no regular file")
    return _execute(path.resolve(), kind, changed_ns)


@lru_cache(maxsize=64)
def _execute(path: Path, kind: str, changed_ns: int) -> ModuleType:
    # dataclasses and pickle need a unique module name that is registered while the file runs.
    import hashlib  # late: it loads OpenSSL

    name = f"aznas_{kind}_{path.stem}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SettingsError(f"{kind} file {path} is no Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except RAISED as error:
        del sys.modules[name]
        raise SettingsError(f"{kind} file {path} fails to load: {summary(error)}") from error
    return module


def place(error: BaseException) -> str:
    """Return the place of an error: the innermost line outside this package and site-packages."""
    frames = traceback.extract_tb(error.__traceback__)
    strange = [
        frame
        for frame in frames
        if not frame.filename.startswith(_OURS)
        and not {"site-packages", "dist-packages"} & {*Path(frame.filename).parts}
    ]
    last = (strange or frames)[-1]
    return f"{last.filename}, line {last.lineno}"


def summary(error: BaseException) -> str:
    """Return an exception as the last line of its traceback, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
