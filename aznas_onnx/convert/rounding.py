"""Round values to a narrower type, in the dtype that carries them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from aznas_onnx.convert.dtypes import INTEGER_RANGES, is_float

__all__ = ["MINIFLOATS", "Minifloat", "convert_values"]

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True)
class Minifloat:
    """A float of eight bits or less.

    - `mantissa`: Bits of the mantissa, without the leading one.
    - `least_exponent`: Exponent of the smallest normal number.
    - `greatest`: Largest finite value.
    - `beyond`: The result for a larger value where the cast does not saturate: infinity or NaN. None for types with
      neither: their casts always saturate, and NaN becomes zero.
    """

    mantissa: int
    least_exponent: int
    greatest: float
    beyond: float | None = math.nan

    def round(self, x: Tensor, *, saturate: bool) -> Tensor:
        """Return the nearest representable values, ties to even."""
        exponent = torch.frexp(x).exponent - 1
        exponent = exponent.clamp(min=self.least_exponent) - self.mantissa
        rounded = torch.ldexp(torch.round(torch.ldexp(x, -exponent)), exponent)
        rounded = torch.where(torch.isfinite(x), rounded, x)
        if self.beyond is None:
            return rounded.nan_to_num(nan=0.0).clamp(-self.greatest, self.greatest)
        if saturate:
            return rounded.clamp(-self.greatest, self.greatest)
        instead = torch.copysign(torch.full_like(x, self.beyond), x)
        return torch.where(rounded.abs() > self.greatest, instead, rounded)


#: By numpy (ml_dtypes) name.
MINIFLOATS: dict[str, Minifloat] = {
    "float8_e4m3fn": Minifloat(3, -6, 448.0),
    "float8_e4m3fnuz": Minifloat(3, -7, 240.0),
    "float8_e5m2": Minifloat(2, -14, 57344.0, math.inf),
    "float8_e5m2fnuz": Minifloat(2, -15, 57344.0),
    "float6_e2m3fn": Minifloat(3, 0, 7.5, None),
    "float6_e3m2fn": Minifloat(2, -2, 28.0, None),
    "float4_e2m1fn": Minifloat(1, 0, 6.0, None),
}


def convert_values(
    source: np.dtype[Any], target: np.dtype[Any], carrier: torch.dtype, *, saturate: bool, round_mode: str = "up"
) -> Callable[[Tensor], Tensor]:
    """Return a function that casts a tensor of ONNX type `source` to ONNX type `target`, carried in `carrier`."""
    narrow = MINIFLOATS.get(target.name)
    if narrow is not None:
        return lambda x: narrow.round(x.to(carrier), saturate=saturate)
    if target.name == "float8_e8m0fnu":
        return lambda x: _power_of_two(x.to(carrier), round_mode)
    if is_float(target) or target.kind == "b":
        return lambda x: x.to(carrier)
    low, high = INTEGER_RANGES[target.name]
    span = high - low
    if torch.iinfo(carrier).max - torch.iinfo(carrier).min <= span or (is_float(source) and span > 255):
        return lambda x: x.to(carrier)
    # The carrier is wider than the type: drop the bits beyond the width, as two's complement.
    return lambda x: (((x.long() - low) & span) + low).to(carrier)


def _power_of_two(x: Tensor, mode: str) -> Tensor:
    """Round to the powers of two of float8_e8m0; it has no sign and no zero."""
    mantissa, exponent = torch.frexp(x)  # x = mantissa * 2**exponent, 0.5 <= mantissa < 1
    if mode == "nearest":
        up = mantissa >= 0.75
    else:
        up = mantissa > 0.5 if mode == "up" else torch.zeros_like(mantissa, dtype=torch.bool)
    power = torch.where(x == 0, -127, torch.where(up, exponent, exponent - 1)).clamp(-127, 127)
    rounded = torch.ldexp(torch.ones_like(x), power)
    return torch.where(torch.isfinite(x), rounded, math.nan)
