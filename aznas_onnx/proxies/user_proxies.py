"""Direction and digest of user proxies in studies and scores files."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path

from aznas_onnx.documents import table
from aznas_onnx.proxies.registry import Direction, Proxy, ProxyRegistry

__all__ = ["USER_PROXIES", "describe_user_proxies", "directions_of", "without_references"]

USER_PROXIES = "own_proxies"
"""The key of the scoring settings that holds them; absent where all proxies are built in."""


def describe_user_proxies(proxies: Iterable[Proxy], registry: ProxyRegistry) -> dict[str, dict[str, object]]:
    """Return reference, direction and a digest of the code of each user proxy, as JSON values.

    The reference is its file and name, or None for a proxy that a program registered.
    """
    return {
        proxy.name: {
            "reference": registry.reference(proxy.name),
            "direction": proxy.direction.value,
            "code": _digest(proxy, registry.reference(proxy.name)),
        }
        for proxy in proxies
        if not registry.is_built_in(proxy.name)
    }


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


def _digest(proxy: Proxy, reference: str | None) -> str | None:
    """Return a digest of the file that defines a proxy, or None where there is no file."""
    file = None if reference is None else reference.rpartition(":")[0]
    if file is None:
        with contextlib.suppress(OSError, TypeError):  # a function typed into a notebook has none
            file = inspect.getsourcefile(proxy.evaluate)
    return None if file is None or not Path(file).is_file() else hashlib.sha256(Path(file).read_bytes()).hexdigest()
