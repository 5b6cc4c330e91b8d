"""Read a policy from ``aznas.toml`` or ``[tool.aznas.gate]`` of ``pyproject.toml``."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aznas_onnx.documents import JsonObject, parse_toml, read_text, shown
from aznas_onnx.errors import AznasError, SettingsError
from aznas_onnx.gating.git_revision import is_in_git
from aznas_onnx.gating.policy import RULES, Policy, RuleError
from aznas_onnx.proxies import is_reference
from aznas_onnx.zoo import is_name

__all__ = ["PolicySources", "find_policy_file", "read_models", "read_policy"]

_MODELS, _CANDIDATE = "model", "candidate"  # keys that are no rules
_OWN, _SHARED = "aznas.toml", "pyproject.toml"
_MOST_BYTES = 2**20
_TABLES = ("floors", "spreads")  # rules whose entries add up
_PATHS: Mapping[str, Callable[[str], bool]] = {  # which of a rule's texts are paths, as seen from the policy file
    "baseline": lambda text: not _is_no_path(text),
    "reference": lambda text: text.endswith(".json"),
    "proxies": lambda text: ".py:" in text,
    "feed": lambda text: text.endswith(".npz"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySources:
    """The rules of a policy file and those of options, which come first.

    - `in_file`, `by_option`: Arguments of :class:`Policy`.
    - `origin`: The file, for messages.
    """

    in_file: Mapping[str, Any] = field(default_factory=dict)
    by_option: Mapping[str, Any] = field(default_factory=dict)
    origin: str = "options"

    @property
    def python_files(self) -> tuple[str, ...]:
        """The Python files that the policy file would have executed: those of proxies, wherever a rule names one."""
        names = (name for rule in ("proxies", "floors", "spreads") for name in self.in_file.get(rule, ()))
        return tuple(name for name in names if is_reference(name))

    def policy(self) -> Policy:
        """Return the policy; raise SettingsError if a rule is not accepted, naming the file if the rule is its."""
        rules = {**self.in_file, **self.by_option}
        if self.in_file:
            try:
                # The baseline of an option counts here: a ratio to it may be the file's.
                Policy(**{**self.in_file, "baseline": rules.get("baseline", ())})
                _find_files({name: value for name, value in self.in_file.items() if name not in self.by_option})
            except AznasError as error:  # an error in the file; other errors are in the options
                raise SettingsError(f"{self.origin}: {_in_words_of_files(error)}") from error
        for table in _TABLES:
            if table in self.by_option:
                rules[table] = {**self.in_file.get(table, {}), **self.by_option[table]}
        try:
            return Policy.of(**rules)
        except RuleError as error:
            place = f"{self.origin}: " if error.rule in self.in_file and error.rule not in self.by_option else ""
            raise SettingsError(f"{place}{error.in_file}") from error


def _find_files(rules: Mapping[str, Any]) -> None:
    """Raise SettingsError if a baseline or reference set that a policy names cannot be found."""
    from aznas_onnx.references import find_reference

    for path in rules.get("baseline", ()):
        if not _is_no_path(path) and not os.path.lexists(path):
            raise RuleError("baseline", f"{path} does not exist")
    for name in rules.get("reference", ()):
        try:
            find_reference(name)
        except AznasError as error:
            raise SettingsError(f"reference: {error}") from error


def _is_no_path(model: str) -> bool:
    """Whether a model is one of a revision or of a library, which the folder of the policy file has no part in."""
    return is_in_git(model) or is_name(model)


def _in_words_of_files(error: AznasError) -> str:
    return error.in_file if isinstance(error, RuleError) else str(error)


def find_policy_file(folder: Path) -> Path | None:
    """Return the policy file of a folder: its own, or that of the nearest parent inside the repository.

    In one folder ``aznas.toml`` comes before ``pyproject.toml``, which counts only if it has the table.
    """
    for place in (folder, *folder.parents):
        if os.path.lexists(place / _OWN):  # an unreadable file is an error, not an absent one
            return place / _OWN
        if os.path.lexists(place / _SHARED) and _table(place / _SHARED) is not None:
            return place / _SHARED
        if (place / ".git").exists():
            return None
    return None


def read_policy(path: Path) -> dict[str, Any]:
    """Read the rules of a file, as arguments of :class:`Policy`.

    Paths of models, references, proxies and samples are taken from the file's own folder, so that a gate does the same
    wherever it is started.

    Raises SettingsError if the file cannot be read, has no such table, or has a rule or a value that is not accepted.
    """
    return _rules({key: value for key, value in _gate_table(path).items() if key != _MODELS}, path, str(path))


def read_models(path: Path, shared: PolicySources) -> tuple[tuple[str, PolicySources], ...]:
    """Read the models that a policy lists under ``[[gate.model]]``; empty for none.

    - `shared`: The sources for all of them. A model's own rules come before those of the file.

    Returns: Each candidate, and its sources.
    Raises SettingsError as :func:`read_policy` does, and for a model without a candidate.
    """
    listed = _gate_table(path).get(_MODELS, [])
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise SettingsError(f"{path}: model is {shown(listed)}; tables [[gate.model]] with a candidate are accepted")
    found = []
    for number, one in enumerate(listed, 1):
        candidate = one.get(_CANDIDATE)
        if not isinstance(candidate, str) or not candidate:
            raise SettingsError(f"{path}: model {number} has no candidate, such as 'models/net.onnx'")
        rules = _rules({key: value for key, value in one.items() if key != _CANDIDATE}, path, f"{path}: {candidate}")
        rules |= {table: {**shared.in_file.get(table, {}), **rules[table]} for table in _TABLES if table in rules}
        place = candidate if _is_no_path(candidate) else str(path.parent / candidate)
        found.append((place, replace(shared, in_file={**shared.in_file, **rules})))
    return tuple(found)


def _gate_table(path: Path) -> JsonObject:
    table = _table(path)
    if table is None:
        where = "[gate]" if path.name != _SHARED else "[tool.aznas.gate]"
        raise SettingsError(f"{path} has no table {where}; that is where the rules of the gate are read from")
    return table


def _rules(table: JsonObject, path: Path, place: str) -> dict[str, Any]:
    """Return the rules of a table of a file, which messages call `place`."""
    rules: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in RULES:
            raise SettingsError(f"{place}: {shown(key)} is no rule; {_hint(key)}")
        if name in rules:
            first = next(one for one in table if one.replace("-", "_") == name)
            raise SettingsError(f"{place} gives {key} twice, also as {first}; keep one")
        try:
            rules[name] = RULES[name].read(value)
        except (TypeError, ValueError) as error:
            raise SettingsError(f"{place}: {key} is {shown(value)}; {error}") from error
        objection = RULES[name].objection(rules[name])
        if objection is not None:
            raise SettingsError(f"{place}: {key} {objection}")
    for name, is_path in _PATHS.items():
        if name in rules:
            seen = [
                str(path.parent / one) if is_path(one) else one
                for one in ([rules[name]] if isinstance(rules[name], str) else rules[name])
            ]
            rules[name] = seen[0] if isinstance(rules[name], str) else tuple(seen)
    return rules


def _hint(key: str) -> str:
    """Return the rule that a wrong name may stand for: one spelled alike, or the one of that option."""
    known = [rule.key for rule in RULES.values()]
    options = [rule.key for rule in RULES.values() if rule.option == f"--{key}"]
    close = options or difflib.get_close_matches(key, known, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"


def _table(path: Path) -> JsonObject | None:
    document = parse_toml(read_text(path, f"policy {path}", most_bytes=_MOST_BYTES), f"policy {path}")
    found: Any = document
    for key in ("tool", "aznas", "gate") if path.name == _SHARED else ("gate",):
        found = found.get(key) if isinstance(found, dict) else None
    if found is not None and not isinstance(found, dict):
        raise SettingsError(f"policy {path}: gate is no table")
    return found
