from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from aznas_onnx.convert.registry import VIA_ONNX2TORCH
from aznas_onnx.convert.table import OPERATORS
from aznas_onnx.errors import UnsupportedOperatorError
from tests.convert.runner import assert_same, node_model, run_here, run_onnxruntime


def test_onnx2torch_is_imported_only_where_an_operator_needs_it() -> None:
    program = "import sys, aznas_onnx.convert; print('onnx2torch' in sys.modules, 'torchvision' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]


def test_the_table_says_which_operators_use_it() -> None:
    assert {entry.op_type for entry in OPERATORS.entries if entry.source == VIA_ONNX2TORCH} == {"RoiAlign"}


def roi_align(**attributes: object) -> list[np.ndarray]:
    rois = np.array([[1, 1, 5, 6]], dtype=np.float32)
    x = np.arange(64, dtype=np.float32).reshape(1, 1, 8, 8)
    model, feeds = node_model("RoiAlign", [x, rois, np.array([0])], attributes, 16)
    found = run_here(model, feeds)
    assert_same(found, run_onnxruntime(model, feeds))
    return found


def test_its_converter_gives_what_onnxruntime_gives() -> None:
    assert roi_align(output_height=2, output_width=3, sampling_ratio=2)[0].shape == (1, 1, 2, 3)


def test_what_it_refuses_is_an_unsupported_operator() -> None:
    with pytest.raises(
        UnsupportedOperatorError, match=r"RoiAlign-16 is used in a way that onnx2torch does not convert"
    ):
        roi_align(mode="max")
