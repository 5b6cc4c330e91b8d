"""Shape, dtype and known value of each tensor at one batch size."""

from __future__ import annotations

import math
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt

from aznas_onnx.errors import ModelError

__all__ = ["TensorInfo", "TensorInfos"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class TensorInfo:
    """Shape and dtype of a tensor, and its value where that is a small known constant.

    `shape` is None where it depends on data (NonZero).
    """

    shape: tuple[int, ...] | None
    dtype: np.dtype[Any]
    value: npt.NDArray[Any] | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes that the tensor takes in its own dtype; 0 where the shape is unknown."""
        return self.elements * self.dtype.itemsize

    @property
    def elements(self) -> int:
        """Number of elements; 0 where the shape is unknown."""
        if self.shape is None:
            return 0
        return math.prod(self.shape)


class TensorInfos(Mapping[str, TensorInfo]):
    """A read-only mapping from tensor name to :class:`TensorInfo`, at the batch size it was made for.

    - `separates_samples`: Whether it is known that every node computes each sample separately, with the batch on axis 0
      of every tensor that follows it.
    """

    def __init__(self, infos: Mapping[str, TensorInfo], batch_size: int, *, separates_samples: bool = False) -> None:
        self._infos = dict(infos)
        self.batch_size = batch_size
        self.separates_samples = separates_samples

    def __getitem__(self, name: str) -> TensorInfo:
        return self._infos[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)

    # Override the mixin methods of Mapping: the dict's own are faster.

    def __contains__(self, name: object) -> bool:
        return name in self._infos

    @overload
    def get(self, name: str, /) -> TensorInfo | None: ...

    @overload
    def get(self, name: str, default: TensorInfo | T, /) -> TensorInfo | T: ...

    def get(self, name: str, default: object = None, /) -> object:
        """Return the info of a tensor, or `default`."""
        return self._infos.get(name, default)

    def keys(self) -> KeysView[str]:
        """Return the names of the tensors."""
        return self._infos.keys()

    def values(self) -> ValuesView[TensorInfo]:
        """Return the info of each tensor."""
        return self._infos.values()

    def items(self) -> ItemsView[str, TensorInfo]:
        """Return the tensors and their infos."""
        return self._infos.items()

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor; raise ModelError if the shape depends on data."""
        shape = self._infos[name].shape
        if shape is None:
            raise ModelError(f"the shape of tensor {name!r} depends on data and is not known before the model runs")
        return shape

    def value(self, name: str) -> npt.NDArray[Any] | None:
        """Return the value of a tensor where it is a small known constant, else None."""
        info = self._infos.get(name)
        return None if info is None else info.value
