from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch

from aznas_onnx.convert.rounding import MINIFLOATS, convert_values

EVERY_HALF = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)


@pytest.mark.parametrize("name", MINIFLOATS)
def test_every_half_rounds_as_in_ml_dtypes(name: str) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name))
    greatest = float(ml_dtypes.finfo(dtype).max)
    finite = EVERY_HALF[np.isfinite(EVERY_HALF)]
    expected = finite.clip(-greatest, greatest).astype(dtype).astype(np.float32)
    rounded = MINIFLOATS[name].round(torch.from_numpy(finite), saturate=True).numpy()
    np.testing.assert_array_equal(rounded, expected)
    assert MINIFLOATS[name].greatest == greatest


@pytest.mark.parametrize("name", [name for name, kind in MINIFLOATS.items() if kind.beyond is not None])
def test_without_saturation_large_values_become_what_the_type_has_for_them(name: str) -> None:
    kind = MINIFLOATS[name]
    x = torch.tensor([10 * kind.greatest, -10 * kind.greatest, kind.greatest, torch.inf])
    rounded = kind.round(x, saturate=False)
    expected = x.numpy().astype(getattr(ml_dtypes, name)).astype(np.float32)
    np.testing.assert_array_equal(rounded.numpy(), expected)


@pytest.mark.parametrize(
    ("source", "target", "value", "expected"),
    [
        (np.int64, np.uint8, 300, 44),
        (np.int64, np.int8, 200, -56),
        (np.int64, np.uint16, -1, 65535),
        (np.int64, np.uint32, -1, 2**32 - 1),
        (np.int64, ml_dtypes.int4, 9, -7),
        (np.int64, ml_dtypes.uint4, 17, 1),
        (np.float32, np.int32, -1.9, -1),
        (np.float32, np.bool_, 0.5, True),
    ],
)
def test_casts_to_integers_drop_what_does_not_fit(source: type, target: type, value: float, expected: float) -> None:
    carrier = {"uint16": torch.int32, "uint32": torch.int64, "int4": torch.int8, "uint4": torch.uint8}.get(
        np.dtype(target).name
    ) or getattr(torch, np.dtype(target).name)
    cast = convert_values(np.dtype(source), np.dtype(target), carrier, saturate=True)
    result = cast(torch.tensor(value))
    assert result.item() == expected
    assert result.dtype == carrier
