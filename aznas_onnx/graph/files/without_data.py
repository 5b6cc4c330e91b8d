"""Read a model file without the data of its large initialisers: scoring initialises weights itself.

Most of a file is that data. The file is walked in protobuf's wire format: a message is a sequence of fields, and a
field is its number and kind, its size where it has one, and its content. The content of ``raw_data`` is passed over;
all other bytes are parsed as usual. A file that the walk does not understand is left to the parser.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import onnx

from aznas_onnx.errors import AznasError
from aznas_onnx.graph.ir.stored_data import OpenFile, StoredData
from aznas_onnx.graph.ir.tensors import is_external, plain_dtype

__all__ = ["Outline", "keep_in_file", "outline_of"]

_LARGE_BYTES = 2**14  # of data that is worth the walk
_WINDOW_BYTES = 2**12
_MOST_FIELDS = 2**18
_MOST_BYTES = 2**31  # in one field
_SHORT, _LONG = 5, 10  # bytes of numbers of 32 and 64 bits
_VARINT, _FIXED_64, _SIZED, _FIXED_32 = 0, 1, 2, 5  # kinds of fields
_FIXED_BYTES = {_FIXED_64: 8, _FIXED_32: 4}
_GRAPH, _INITIALISER, _RAW_DATA = 7, 5, 9  # numbers of fields: of a model, a graph and a tensor
_Range: TypeAlias = tuple[int, int]
_Parts: TypeAlias = "list[bytes | _Range]"
"""Bytes, and ranges of the file that are taken as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """A model file without the data of its large initialisers.

    - `content`: The file without the data.
    - `file`: The file.
    - `places`: Where the data is that was left out, by the number of its initialiser.
    """

    content: bytes
    file: OpenFile
    places: Mapping[int, _Range]


class _WireField(NamedTuple):
    number: int
    kind: int
    start: int
    content: int
    end: int


class _NotUnderstoodError(Exception):
    """The walk has met what the parser must judge."""


def outline_of(file: OpenFile) -> Outline | None:
    """Return the outline of a file; None where it must be read as a whole: it saves little, or cannot be made."""
    walk = _WireWalk(file)
    try:
        parts = walk.model()
        if 2 * sum(end - start for start, end in walk.places.values()) < file.size_bytes:
            return None
        content = b"".join(part if isinstance(part, bytes) else file.read(part) for part in parts)
    except (_NotUnderstoodError, AznasError):
        return None
    return Outline(content=content, file=file, places=walk.places)


def keep_in_file(model: onnx.ModelProto, outline: Outline) -> Mapping[str, StoredData]:
    """Return the data of initialisers that stays in the file, by name.

    - `model`: Parsed from the outline. It gets the data that cannot stay there: of packed types, and where two
      initialisers have one name.
    """
    found: dict[str, StoredData] = {}
    names = [tensor.name for tensor in model.graph.initializer]
    are_unique = len(set(names)) == len(names)
    for index, (start, end) in outline.places.items():
        tensor = model.graph.initializer[index]
        dtype = None if is_external(tensor) or tensor.HasField("segment") else plain_dtype(tensor.data_type)
        if dtype is None or not are_unique:
            tensor.raw_data = outline.file.read((start, end))
            continue
        found[names[index]] = StoredData(
            file=outline.file,
            start=start,
            end=end,
            shape=tuple(tensor.dims),
            dtype=dtype,
        )
    return found


class _WireWalk:
    """Finds the data in a file that can be left out: the places of it, by the number of its initialiser."""

    def __init__(self, file: OpenFile) -> None:
        self.places: dict[int, _Range] = {}
        self._file = file
        self._window = b""
        self._window_start = 0
        self._fields_left = _MOST_FIELDS
        self._initialisers = 0

    def model(self) -> _Parts:
        """Return what the file is without the data."""
        parts: _Parts = []
        kept = 0
        for field in self._fields(0, self._file.size_bytes):
            if field.number == _GRAPH and field.kind == _SIZED:
                graph = self._graph(field.content, field.end)
                parts += ((kept, field.start), _sized(_GRAPH, _size(graph)), *graph)
                kept = field.end
        return [*parts, (kept, self._file.size_bytes)]

    def _graph(self, start: int, end: int) -> _Parts:
        parts: _Parts = []
        kept = start
        for field in self._fields(start, end):
            if field.number != _INITIALISER or field.kind != _SIZED:
                continue
            data = self._data(field) if field.end - field.content >= _LARGE_BYTES else None
            if data is not None:
                self.places[self._initialisers] = data.content, data.end
                tensor: _Parts = [(field.content, data.start), (data.end, field.end)]
                parts += ((kept, field.start), _sized(_INITIALISER, _size(tensor)), *tensor)
                kept = field.end
            self._initialisers += 1
        return [*parts, (kept, end)]

    def _data(self, tensor: _WireField) -> _WireField | None:
        """Return the field with the data of a tensor, where there is one and it is large."""
        found = [field for field in self._fields(tensor.content, tensor.end) if field.number == _RAW_DATA]
        is_large = len(found) == 1 and found[0].kind == _SIZED and found[0].end - found[0].content >= _LARGE_BYTES
        return found[0] if is_large else None

    def _fields(self, start: int, end: int) -> Iterator[_WireField]:
        """Yield the fields of a message, which is a range of the file."""
        position = start
        while position < end:
            key, content = self._number(position, _SHORT)
            kind = key & 7
            if kind == _SIZED:
                size, content = self._number(content, _SHORT)
                after = content + size if size < _MOST_BYTES else end + 1
            elif kind == _VARINT:
                after = self._number(content, _LONG)[1]
            else:
                after = content + _FIXED_BYTES.get(kind, end)
            self._fields_left -= 1
            if after > end or self._fields_left < 0:
                raise _NotUnderstoodError
            yield _WireField(key >> 3, kind, position, content, after)
            position = after

    def _number(self, position: int, most_bytes: int) -> tuple[int, int]:
        """Return a number, which has seven bits in each of its bytes, and the place after it."""
        at = position - self._window_start
        if not 0 <= at <= len(self._window) - _LONG:
            self._window_start, at = position, 0
            self._window = self._file.read((position, min(position + _WINDOW_BYTES, self._file.size_bytes)))
        if self._window[at] < 128:  # most numbers
            return self._window[at], position + 1
        value = 0
        for index, byte in enumerate(self._window[at : at + most_bytes]):
            value |= (byte & 127) << 7 * index
            if byte < 128:
                return value, position + index + 1
        raise _NotUnderstoodError


def _size(parts: _Parts) -> int:
    return sum(len(part) if isinstance(part, bytes) else part[1] - part[0] for part in parts)


def _sized(number: int, size: int) -> bytes:
    """Return the start of a field that has a size."""
    made = bytearray()
    for value in (number << 3 | _SIZED, size):
        while value > 127:
            made.append(value & 127 | 128)
            value >>= 7
        made.append(value)
    return bytes(made)
