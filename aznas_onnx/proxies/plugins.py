"""Proxies from a user's own file: ``FILE.py:NAME``. Never imports torch, unless the file does."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from aznas_onnx.errors import SettingsError
from aznas_onnx.proxies.registry import Proxy

__all__ = ["load"]

_SUFFIX = ".py"


def load(reference: str) -> Proxy:
    """Execute a file and return the proxy that it defines.

    Parameters
    ----------
    reference
        ``FILE.py:NAME``, NAME being the variable that holds the :class:`Proxy`. A file is executed once, for as long as
        it does not change.

    Raises
    ------
    SettingsError
        If the file cannot be read or executed, or has no such proxy.
    """
    path, _, attribute = reference.rpartition(":") if not reference.endswith(_SUFFIX) else (reference, "", "")
    if not attribute:
        raise SettingsError(f"proxy file {reference!r} needs the name of its proxy; write {reference}:NAME")
    file = Path(path)
    try:
        changed_ns = file.stat().st_mtime_ns
    except OSError as error:
        raise SettingsError(f"proxy file {path} cannot be read: {error.strerror or error}") from error
    found = getattr(_execute(file.resolve(), changed_ns), attribute, None)
    if not isinstance(found, Proxy):
        kind = "nothing" if found is None else f"a {type(found).__name__}"
        raise SettingsError(f"{attribute} in proxy file {path} is {kind}; an aznas_onnx.proxies.Proxy is needed")
    return found


@lru_cache(maxsize=32)
def _execute(path: Path, changed_ns: int) -> Any:
    # A name of its own, registered while the file runs, is what dataclasses and pickle need.
    name = f"aznas_proxy_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SettingsError(f"proxy file {path} is no Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a stranger's file may raise anything
        del sys.modules[name]
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise SettingsError(f"proxy file {path} fails to load: {reason}") from error
    return module
