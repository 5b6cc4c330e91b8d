"""Proxies in user files: loading them, and the record of them in studies and scores files."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
from collections.abc import Mapping
from pathlib import Path

from aznas_onnx.documents import table
from aznas_onnx.errors import SettingsError
from aznas_onnx.proxies.proxy import Direction, Proxy
from aznas_onnx.user_modules import execute

__all__ = ["USER_PROXIES", "digest", "directions_of", "load_proxy", "without_references"]

USER_PROXIES = "own_proxies"
"""Their key in the scoring settings; absent where all proxies are built in."""


def load_proxy(reference: str) -> Proxy:
    """Execute a file and return the proxy that it defines.

    - `reference`: ``FILE.py:NAME``, where NAME is the variable of the :class:`Proxy`. An unchanged file is executed
      once.

    Raises SettingsError if the file cannot be read or executed, or has no such proxy.
    """
    path, _, attribute = reference.rpartition(":") if not reference.endswith(".py") else (reference, "", "")
    if not attribute:
        raise SettingsError(f"proxy file {reference!r} needs the name of its proxy; write {reference}:NAME")
    module = execute(Path(path), "proxy")
    found = getattr(module, attribute, None)
    if not isinstance(found, Proxy):
        there = [name for name, value in vars(module).items() if isinstance(value, Proxy)]
        remedy = f"it has {', '.join(there)}" if there else "an aznas_onnx.proxies.Proxy is needed"
        if found is None:
            raise SettingsError(f"proxy file {path} has no {attribute}; {remedy}")
        raise SettingsError(f"{attribute} in proxy file {path} is a {type(found).__name__}; {remedy}")
    return found


def directions_of(scoring: Mapping[str, object]) -> dict[str, Direction]:
    """Return which way the proxies that are not built in point, from the scoring settings of a file."""
    return {name: Direction(own["direction"]) for name, own in table(scoring.get(USER_PROXIES, {})).items()}


def without_references(scoring: Mapping[str, object]) -> dict[str, object]:
    """Leave out the paths of proxies: a file can be continued from another folder."""
    if USER_PROXIES not in scoring:
        return dict(scoring)
    kept = {
        name: {key: value for key, value in own.items() if key != "reference"}
        for name, own in table(scoring[USER_PROXIES]).items()
    }
    return {**scoring, USER_PROXIES: kept}


def digest(proxy: Proxy, reference: str | None) -> str | None:
    """Return a digest of the file that defines a proxy, or None where there is no file."""
    file = None if reference is None else reference.rpartition(":")[0]
    if file is None:
        with contextlib.suppress(OSError, TypeError):  # a function typed into a notebook has none
            file = inspect.getsourcefile(proxy.evaluate)
    return None if file is None or not Path(file).is_file() else hashlib.sha256(Path(file).read_bytes()).hexdigest()
