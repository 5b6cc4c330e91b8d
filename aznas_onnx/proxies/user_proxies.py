"""Proxies in user files: loading them, and the record of them in studies and scores files."""

from __future__ import annotations

import contextlib
import inspect
from dataclasses import dataclass
from pathlib import Path

from aznas_onnx.documents import JsonObject
from aznas_onnx.errors import SettingsError
from aznas_onnx.proxies.proxy import Direction, Proxy
from aznas_onnx.user_modules import execute

__all__ = ["USER_PROXIES", "StoredProxy", "digest", "load_proxy"]

USER_PROXIES = "own_proxies"
"""Their key in the scoring settings; absent where all proxies are built in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredProxy:
    """A user proxy in the settings of stored scores.

    - `reference`: ``FILE.py:NAME``; None for a proxy that a program registered.
    - `code`: A digest of its file.
    """

    direction: Direction
    reference: str | None = None
    code: str | None = None

    @classmethod
    def from_json(cls, data: JsonObject) -> StoredProxy:
        """Read what :meth:`as_json` wrote; a custom scorer stores the direction alone."""
        return cls(direction=Direction(data["direction"]), reference=data.get("reference"), code=data.get("code"))

    def as_json(self) -> JsonObject:
        """Return the proxy as JSON values."""
        return {"reference": self.reference, "direction": self.direction.value, "code": self.code}


def load_proxy(reference: str) -> Proxy:
    """Execute the file of ``FILE.py:NAME`` and return the proxy; raise SettingsError if it has none of that name."""
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


def digest(proxy: Proxy, reference: str | None) -> str | None:
    """Return a digest of the file that defines a proxy, or None where there is no file."""
    file = None if reference is None else reference.rpartition(":")[0]
    if file is None:
        with contextlib.suppress(OSError, TypeError):  # a function typed into a notebook has none
            file = inspect.getsourcefile(proxy.evaluate)
    import hashlib  # late: it loads OpenSSL

    return None if file is None or not Path(file).is_file() else hashlib.sha256(Path(file).read_bytes()).hexdigest()
