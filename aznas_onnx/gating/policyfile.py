"""Read a policy from ``aznas.toml`` or ``[tool.aznas.gate]`` of ``pyproject.toml``."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aznas_onnx.counts import parse_count
from aznas_onnx.documents import finite, flag, parse_toml, read_text, shown, whole
from aznas_onnx.errors import SettingsError
from aznas_onnx.gating.policy import Inconclusive, Policy
from aznas_onnx.proxies import is_reference

__all__ = ["find_policy_file", "python_files", "read_policy"]

_OWN, _SHARED = "aznas.toml", "pyproject.toml"
_MOST_BYTES = 2**20


def find_policy_file(folder: Path) -> Path | None:
    """Return the policy that holds in a folder: its own, or that of the nearest folder above inside the repository.

    In one folder ``aznas.toml`` comes before ``pyproject.toml``, which counts only if it has the table.
    """
    for place in (folder, *folder.parents):
        if os.path.lexists(place / _OWN):  # what is there and cannot be read is a mistake, not an absence
            return place / _OWN
        if os.path.lexists(place / _SHARED) and _table(place / _SHARED) is not None:
            return place / _SHARED
        if (place / ".git").exists():
            return None
    return None


def read_policy(path: Path) -> dict[str, Any]:
    """Read the rules of a file, as arguments of :class:`Policy`.

    Paths of models, references and proxies are taken from the file's own folder, so that a gate does the same wherever
    it is started.

    Raises
    ------
    SettingsError
        If the file cannot be read, has no such table, or has a rule or a value that is not accepted.
    """
    table = _table(path)
    if table is None:
        where = "[gate]" if path.name != _SHARED else "[tool.aznas.gate]"
        raise SettingsError(f"{path} has no table {where}; that is where the rules of the gate are read from")
    rules: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in _READERS:
            known = [rule.replace("_", "-") for rule in _READERS]
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise SettingsError(f"{path} has a rule {shown(key)}, which does not exist; {hint}")
        try:
            rules[name] = _READERS[name](value)
        except (TypeError, ValueError) as error:
            raise SettingsError(f"{path}: {key} is {shown(value)}; {error}") from error
    if "baseline" in rules:
        rules["baseline"] = tuple(str(path.parent / one) for one in rules["baseline"])
    if "reference" in rules:
        rules["reference"] = tuple(
            str(path.parent / one) if one.endswith(".json") else one for one in rules["reference"]
        )
    if "proxies" in rules:
        rules["proxies"] = tuple(str(path.parent / one) if ".py:" in one else one for one in rules["proxies"])
    return rules


def python_files(rules: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the Python files that rules would have executed: those of proxies, wherever a rule names one."""
    names = (*rules.get("proxies", ()), *rules.get("floors", ()), *rules.get("spreads", ()))
    return tuple(name for name in names if is_reference(name))


def _table(path: Path) -> Mapping[str, Any] | None:
    document = parse_toml(read_text(path, f"policy {path}", most_bytes=_MOST_BYTES), f"policy {path}")
    found: Any = document
    for key in ("tool", "aznas", "gate") if path.name == _SHARED else ("gate",):
        found = found.get(key) if isinstance(found, dict) else None
    if found is not None and not isinstance(found, dict):
        raise SettingsError(f"policy {path}: gate is no table")
    return found


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("a text in quotes is accepted")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (_text(value),)
    if not isinstance(value, list) or not value:
        raise TypeError("a text in quotes, or a list of them, is accepted")
    return tuple(_text(one) for one in value)


def _count(value: Any) -> int:
    return parse_count(value) if isinstance(value, str) else whole(value)


def _numbers(value: Any) -> dict[str, float]:
    if not isinstance(value, dict):
        raise TypeError("a table of proxies and numbers is accepted")
    return {name: finite(number) for name, number in value.items()}


def _shapes(value: Any) -> dict[str, tuple[int, ...]]:
    if not isinstance(value, dict) or not all(isinstance(shape, list) for shape in value.values()):
        raise TypeError("a table of inputs and lists of sizes is accepted")
    return {name: tuple(whole(size) for size in shape) for name, shape in value.items()}


def _values(value: Any) -> dict[str, Any]:
    expected = "a table of inputs and numbers, true or false is accepted"
    if not isinstance(value, dict):
        raise TypeError(expected)
    for one in (one for entry in value.values() for one in (entry if isinstance(entry, list) else [entry])):
        if not isinstance(one, bool | int | float):
            raise TypeError(expected)
        if not isinstance(one, bool):
            finite(one)
    return value


def _inconclusive(value: Any) -> Inconclusive:
    if value not in [choice.value for choice in Inconclusive]:
        raise ValueError('"pass" or "reject" is accepted')
    return Inconclusive(value)


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "baseline": _texts,
    "reference": _texts,
    "min_percentile": finite,
    "tolerance": finite,
    "min_shortcuts": finite,
    "proxies": _texts,
    "aggregate": _text,
    "spreads": _numbers,
    "max_macs": _count,
    "max_params": _count,
    "max_activation_bytes": _count,
    "max_latency": finite,
    "max_latency_ratio": finite,
    "floors": _numbers,
    "inconclusive": _inconclusive,
    "confidence": finite,
    "min_seeds": whole,
    "max_seeds": whole,
    "seed": whole,
    "effort": _text,
    "batch_size": whole,
    "device": _text,
    "time_limit": finite,
    "blocks": _texts,
    "input_shapes": _shapes,
    "cut_at": _texts,
    "values": _values,
    "keep_graph": flag,
}
assert set(_READERS) == set(Policy.names())
