"""Hashes of a model's files: what a gate has judged, and what a stored score is of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from aznas_onnx.errors import ModelError
from aznas_onnx.zoo import file_of

__all__ = ["FileHashes"]

_CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class FileHashes:
    """SHA-256 of a model's file, and of each file beside it that holds external data, by its name in the model."""

    sha256: str
    data: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, path: str | Path, data_files: Iterable[str]) -> FileHashes:
        """Read the files; raise ModelError if one cannot be read any more."""
        file = file_of(path)
        data = {name: _sha256(file.parent / name) for name in data_files}
        return cls(sha256=_sha256(file), data=MappingProxyType(data))


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                found.update(chunk)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    return found.hexdigest()
