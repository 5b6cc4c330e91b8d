"""Data of initialisers that is read from the model's file when it is needed."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aznas_onnx.errors import AznasError
from aznas_onnx.graph.ir.graph import Array

__all__ = ["OpenFile", "StoredData"]

_SPAN_BYTES = 2**16  # numbers that lie closer together are read at once


class OpenFile:
    """A file that is open for as long as somebody holds it; its data can be read after it was replaced or deleted.

    A memory map would do the same, but the process would be killed where another one shortens the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        self._version = self._stat()
        self.size_bytes = self._version[0]

    def _stat(self) -> tuple[int, int]:
        found = os.fstat(self._descriptor)
        return found.st_size, found.st_mtime_ns

    def read(self, *ranges: tuple[int, int]) -> bytes:
        """Return ranges of the file, one after the other.

        Raises AznasError where it has changed since it was opened, which is not to be taken for a lack of data.
        """
        try:
            parts = [self._range(start, end) for start, end in ranges]
        except OSError as error:
            raise AznasError(f"{self._path} cannot be read: {error.strerror or error}") from error
        content = parts[0] if len(parts) == 1 else b"".join(parts)
        if len(content) < sum(end - start for start, end in ranges) or self._stat() != self._version:
            raise AznasError(f"{self._path} was changed while it was used; start again")
        return content

    def _range(self, start: int, end: int) -> bytes:
        content = os.pread(self._descriptor, end - start, start)
        if 0 < len(content) < end - start:  # a call reads up to 2 GiB
            content += self._range(start + len(content), end)
        return content


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredData:
    """The data of a tensor in a file: the `read` of a constant.

    - `file`, `start`, `end`: Where it is, in the byte order of this machine.
    - `shape`, `dtype`: Those of the tensor. Its size is that of the data once
      :func:`~aznas_onnx.graph.ir.tensors.check_tensor` has checked that.
    """

    file: OpenFile
    start: int
    end: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __call__(self) -> Array:
        """Return the tensor; it is read-only."""
        return np.frombuffer(self.file.read((self.start, self.end)), self.dtype).reshape(self.shape)

    def at(self, positions: Sequence[int]) -> Array:
        """Return the numbers at some places in the tensor, counted in its own order; they rise."""
        size = self.dtype.itemsize
        places = [self.start + size * position for position in positions]
        if places[-1] - places[0] < _SPAN_BYTES:
            near = self.file.read((places[0], places[-1] + size))
            content = b"".join(near[place - places[0] : place - places[0] + size] for place in places)
        else:
            content = self.file.read(*((place, place + size) for place in places))
        return np.frombuffer(content, self.dtype)
