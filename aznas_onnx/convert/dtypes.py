"""The torch dtype for each ONNX dtype.

Floats of 16 bits and more are computed in the program's dtype. Narrower floats (float8, float6, float4) are stored in
it too; Cast and QuantizeLinear round their values to the narrow format. Integers have their own type where torch
supports it, and otherwise the next wider signed type.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aznas_onnx.caches import cached

__all__ = ["INTEGER_RANGES", "carrier", "is_float", "numpy_dtype", "to_tensor"]

_CARRIERS: dict[str, torch.dtype] = {
    "bool": torch.bool,
    "int2": torch.int8,
    "int4": torch.int8,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "uint2": torch.uint8,
    "uint4": torch.uint8,
    "uint8": torch.uint8,
    "uint16": torch.int32,
    "uint32": torch.int64,
    "uint64": torch.int64,
}

#: Least and greatest value of each integer type, by numpy name.
INTEGER_RANGES: dict[str, tuple[int, int]] = {
    **{f"int{bits}": (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) for bits in (2, 4, 8, 16, 32, 64)},
    **{f"uint{bits}": (0, (1 << bits) - 1) for bits in (2, 4, 8, 16, 32, 64)},
}


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether `dtype` is a floating-point type, ml_dtypes' ones included."""
    return dtype.kind == "f" or "float" in dtype.name


def carrier(dtype: np.dtype[Any], float_dtype: torch.dtype) -> torch.dtype | None:
    """Return the torch dtype for `dtype`, or None for strings and complex numbers."""
    found = _CARRIERS.get(dtype.name)
    return found if found is not None else float_dtype if is_float(dtype) else None


@cached(64, "needed for every Cast")
def numpy_dtype(code: int) -> np.dtype[Any]:
    """Return the numpy dtype of a ``TensorProto.DataType`` code, as attributes such as Cast's `to` give it."""
    from onnx.helper import tensor_dtype_to_np_dtype

    return np.dtype(tensor_dtype_to_np_dtype(code))


def to_tensor(array: npt.NDArray[Any], device: torch.device, float_dtype: torch.dtype) -> torch.Tensor | None:
    """Return `array` as a tensor in its carrier dtype, or None where it has none."""
    dtype = carrier(array.dtype, float_dtype)
    if dtype is None:
        return None
    if array.dtype.isbuiltin != 1:  # a dtype of ml_dtypes, which torch cannot read
        array = array.astype(np.float32 if is_float(array.dtype) else np.int64)
    elif not array.flags.writeable or not array.flags.c_contiguous or array.dtype.byteorder == ">":
        array = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
    return torch.from_numpy(array).to(device=device, dtype=dtype)
