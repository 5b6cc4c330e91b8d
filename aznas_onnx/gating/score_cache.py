"""Scores that outlive the process: a network that has not changed is not scored again.

An entry is a small JSON file in the user's cache folder. Its name is a digest of all that the scores depend on: the
content of the model's files, the settings, the seeds, the versions of the software, and the files of this package.
Networks with Python files of a user (proxies, operators) are always scored.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import MappingProxyType

import aznas_onnx
from aznas_onnx.cache_folder import cache_folder
from aznas_onnx.caches import register_cache
from aznas_onnx.documents import JsonObject
from aznas_onnx.gating.file_hashes import FileHashes
from aznas_onnx.operators import CUSTOM_OPERATORS
from aznas_onnx.proxies import PROXIES
from aznas_onnx.results import ProxyScores, ProxyValue, Status
from aznas_onnx.scoring import ScoreSettings
from aznas_onnx.scoring.device import hardware_of
from aznas_onnx.software import software_versions

__all__ = ["CachedScores", "ScoreCache"]

_FOLDER = "scores"
_MOST_FILES = 1000
_LAYOUT = 2
_NOT_OF_ONE_SEED = ("seeds", "seed")  # an entry names its seeds


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreCache:
    """The entries of one kind of scores.

    - `folder`: Where they are.
    - `common`: What they have in common, apart from networks and seeds.
    """

    folder: Path
    common: str

    @classmethod
    def of(cls, settings: ScoreSettings) -> ScoreCache | None:
        """Return the cache for scores of these settings; None where a user's code takes part."""
        proxies = PROXIES.resolve(settings.proxies)
        if CUSTOM_OPERATORS.files or not all(PROXIES.is_built_in(proxy.name) for proxy in proxies):
            return None
        described = {name: one for name, one in settings.as_json().items() if name not in _NOT_OF_ONE_SEED}
        parts = (_LAYOUT, described, hardware_of(settings.device), software_versions(), _code())
        return cls(folder=cache_folder() / _FOLDER, common=json.dumps(parts, sort_keys=True))

    def entry(self, hashes: FileHashes, seeds: range) -> Path:
        """Return the file of a network's scores under some seeds."""
        parts = (self.common, hashes.sha256, sorted(hashes.data.values()), seeds.start, seeds.stop)
        return self.folder / f"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedScores:
    """The entries of one network; reading and writing never fail, since it can be scored without them."""

    cache: ScoreCache
    hashes: FileHashes

    def read(self, model: str, seeds: range) -> ProxyScores | None:
        """Return the stored scores of a model, under its present name; None where there are none."""
        try:
            stored = json.loads(self.cache.entry(self.hashes, seeds).read_bytes())
            return ProxyScores(
                model=model,
                status=Status.OK,
                proxies=MappingProxyType({name: _value(**one) for name, one in stored["proxies"].items()}),
                macs=stored["macs"],
                params=stored["params"],
                blocks=stored["blocks"],
                design=MappingProxyType({name: float.fromhex(one) for name, one in stored["design"].items()}),
                changes=tuple(map(str, stored["changes"])),
                warnings=tuple(map(str, stored["warnings"])),
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError):  # absent, or damaged
            return None

    def write(self, scores: ProxyScores, seeds: range) -> None:
        """Store the scores of a model, unless a warning names it: the file may have another name next time."""
        if any(scores.model in warning for warning in scores.warnings):
            return
        stored = {
            "proxies": {name: _plain_value(one) for name, one in scores.proxies.items()},
            "macs": scores.macs,
            "params": scores.params,
            "blocks": scores.blocks,
            "design": {name: float(one).hex() for name, one in scores.design.items()},
            "changes": scores.changes,
            "warnings": scores.warnings,
        }
        folder, path = self.cache.folder, self.cache.entry(self.hashes, seeds)
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile("w", dir=folder, suffix=".part", delete=False, encoding="ascii") as file:
                json.dump(stored, file)
            Path(file.name).replace(path)
            _prune(folder)


def _plain_value(value: ProxyValue) -> JsonObject:
    """Return a value as JSON has it; numbers as texts, since some are not finite."""
    return {
        "mean": None if value.mean is None else value.mean.hex(),
        "stderr": None if value.stderr is None else value.stderr.hex(),
        "per_seed": [float(one).hex() for one in value.per_seed],
        "reason": value.reason,
        "applies": value.applies,
    }


def _value(mean: str | None, stderr: str | None, per_seed: list[str], reason: str | None, applies: bool) -> ProxyValue:
    return ProxyValue(
        mean=None if mean is None else float.fromhex(mean),
        stderr=None if stderr is None else float.fromhex(stderr),
        per_seed=tuple(map(float.fromhex, per_seed)),
        reason=reason,
        applies=bool(applies),
    )


def _code() -> str:
    """Return a digest of the files of this package: a version under development has one number for many of them."""
    root = Path(aznas_onnx.__file__).parent
    found = [(os.fspath(path), path.stat()) for path in sorted(root.rglob("*.py"))]
    parts = [(path, stat.st_size, stat.st_mtime_ns) for path, stat in found]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _files(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _prune(folder: Path) -> None:
    """Delete the oldest half of the entries where there are too many."""
    files = _files(folder)
    if len(files) > _MOST_FILES:
        for path in sorted(files, key=lambda one: one.stat().st_mtime)[: _MOST_FILES // 2]:
            path.unlink(missing_ok=True)


def _entries() -> list[Path]:
    return _files(cache_folder() / _FOLDER)


def _clear() -> None:
    for path in _entries():
        with contextlib.suppress(OSError):
            path.unlink()


register_cache(
    __name__,
    _MOST_FILES,
    "scoring a network takes seconds to minutes, and a baseline stays the same for weeks",
    size=lambda: len(_entries()),
    clear=_clear,
)
