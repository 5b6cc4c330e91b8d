"""Load proxies from user files: ``FILE.py:NAME``."""

from __future__ import annotations

from pathlib import Path

from aznas_onnx.errors import SettingsError
from aznas_onnx.proxies.registry import Proxy
from aznas_onnx.user_modules import execute

__all__ = ["load"]

_SUFFIX = ".py"


def load(reference: str) -> Proxy:
    """Execute a file and return the proxy that it defines.

    Parameters
    ----------
    reference
        ``FILE.py:NAME``, where NAME is the variable of the :class:`Proxy`. An unchanged file is executed once.

    Raises
    ------
    SettingsError
        If the file cannot be read or executed, or has no such proxy.
    """
    path, _, attribute = reference.rpartition(":") if not reference.endswith(_SUFFIX) else (reference, "", "")
    if not attribute:
        raise SettingsError(f"proxy file {reference!r} needs the name of its proxy; write {reference}:NAME")
    module = execute(Path(path), "proxy")
    found = getattr(module, attribute, None)
    if not isinstance(found, Proxy):
        kind = "nothing" if found is None else f"a {type(found).__name__}"
        there = [name for name, value in vars(module).items() if isinstance(value, Proxy)]
        remedy = f"the file has {', '.join(there)}" if there else "an aznas_onnx.proxies.Proxy is needed"
        raise SettingsError(f"{attribute} in proxy file {path} is {kind}; {remedy}")
    return found
