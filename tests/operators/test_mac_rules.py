"""Every counted operator against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from aznas_onnx.graph import Node, TensorInfo, TensorInfos
from aznas_onnx.operators import OPERATORS, zero

Shape = tuple[int, ...]


def macs(op_type: str, inputs: list[Shape | None], output: Shape, domain: str = "", **attributes: Any) -> int:
    """Count one node, given the shapes of its operands (None: omitted) and of its first output."""
    names = ["" if shape is None else f"in{i}" for i, shape in enumerate(inputs)]
    known = {name: TensorInfo(shape, np.dtype(np.float32)) for name, shape in zip(names, inputs, strict=True) if name}
    node = Node(
        op_type=op_type,
        domain=domain,
        version=1,
        name="n",
        inputs=tuple(names),
        outputs=("out",),
        attributes=attributes,
    )
    infos = TensorInfos({**known, "out": TensorInfo(output, np.dtype(np.float32))}, batch_size=1)
    record = OPERATORS.record_of(node)
    assert record is not None
    assert record.macs is not None
    return record.macs(node, infos)


CASES = [
    # 8 filters of 3x3x3 at 32x32 positions, padding included
    pytest.param("Conv", [(1, 3, 32, 32), (8, 3, 3, 3), (8,)], (1, 8, 32, 32), {}, 8 * 27 * 1024, id="conv"),
    # two samples, stride 2: 16x16 positions
    pytest.param("Conv", [(2, 3, 32, 32), (8, 3, 3, 3)], (2, 8, 16, 16), {}, 2 * 8 * 27 * 256, id="conv-strided"),
    # depthwise: each of the 8 outputs reads one channel
    pytest.param(
        "Conv", [(1, 8, 10, 10), (8, 1, 5, 5)], (1, 8, 10, 10), {"group": 8}, 8 * 25 * 100, id="conv-depthwise"
    ),
    # 4 groups of 2 in and 4 out
    pytest.param("Conv", [(1, 8, 7, 7), (16, 2, 1, 1)], (1, 16, 7, 7), {"group": 4}, 16 * 2 * 49, id="conv-grouped"),
    # one-dimensional and three-dimensional
    pytest.param("Conv", [(1, 4, 100), (6, 4, 3)], (1, 6, 98), {}, 6 * 4 * 3 * 98, id="conv-1d"),
    pytest.param("Conv", [(1, 1, 4, 4, 4), (2, 1, 2, 2, 2)], (1, 2, 3, 3, 3), {}, 2 * 8 * 27, id="conv-3d"),
    # each of 4x5x5 inputs is spread over 8 kernels of 2x2
    pytest.param(
        "ConvTranspose", [(1, 4, 5, 5), (4, 8, 2, 2)], (1, 8, 10, 10), {}, 4 * 25 * 8 * 4, id="conv-transpose"
    ),
    # two groups: each input reaches 3 of the 6 outputs
    pytest.param(
        "ConvTranspose",
        [(1, 4, 5, 5), (4, 3, 2, 2)],
        (1, 6, 10, 10),
        {"group": 2},
        4 * 25 * 3 * 4,
        id="conv-transpose-grouped",
    ),
    pytest.param("ConvInteger", [(1, 3, 8, 8), (4, 3, 3, 3)], (1, 4, 6, 6), {}, 4 * 27 * 36, id="conv-integer"),
    pytest.param(
        "QLinearConv",
        [(1, 3, 8, 8), (), (), (4, 3, 3, 3), (), (), (), ()],
        (1, 4, 6, 6),
        {},
        4 * 27 * 36,
        id="qlinear-conv",
    ),
    # the bilinear sampling is not counted, like Resize
    pytest.param(
        "DeformConv", [(1, 4, 9, 9), (6, 4, 3, 3), (1, 18, 7, 7)], (1, 6, 7, 7), {}, 6 * 36 * 49, id="deform-conv"
    ),
    pytest.param("CausalConvWithState", [(2, 6, 20), (6, 1, 4)], (2, 6, 20), {}, 2 * 6 * 4 * 20, id="causal-conv"),
    pytest.param("Gemm", [(2, 5), (5, 7), (7,)], (2, 7), {}, 2 * 5 * 7, id="gemm"),
    pytest.param("Gemm", [(5, 2), (7, 5)], (2, 7), {"transA": 1, "transB": 1}, 2 * 5 * 7, id="gemm-transposed"),
    pytest.param("MatMul", [(4, 6), (6, 3)], (4, 3), {}, 4 * 6 * 3, id="matmul"),
    # 2x8 heads of [10, 16] by [16, 10]
    pytest.param(
        "MatMul", [(2, 8, 10, 16), (2, 8, 16, 10)], (2, 8, 10, 10), {}, 16 * 10 * 16 * 10, id="matmul-batched"
    ),
    pytest.param("MatMul", [(6,), (6,)], (), {}, 6, id="matmul-vectors"),
    pytest.param("MatMul", [(5, 6), (6,)], (5,), {}, 30, id="matmul-vector"),
    pytest.param("MatMulInteger", [(4, 6), (6, 3)], (4, 3), {}, 72, id="matmul-integer"),
    pytest.param("QLinearMatMul", [(4, 6), (), (), (6, 3), (), (), (), ()], (4, 3), {}, 72, id="qlinear-matmul"),
    pytest.param("Einsum", [(2, 3, 4), (2, 4, 5)], (2, 3, 5), {"equation": "bij,bjk->bik"}, 2 * 3 * 4 * 5, id="einsum"),
    # 7 steps of 2 samples, 4 gates of 5 rows, each over 3 features and 5 states
    pytest.param("LSTM", [(7, 2, 3), (1, 20, 3), (1, 20, 5)], (7, 1, 2, 5), {}, 14 * 20 * 8, id="lstm"),
    pytest.param(
        "LSTM", [(7, 2, 3), (2, 20, 3), (2, 20, 5)], (7, 2, 2, 5), {}, 2 * 14 * 20 * 8, id="lstm-bidirectional"
    ),
    pytest.param("GRU", [(7, 2, 3), (1, 15, 3), (1, 15, 5)], (7, 1, 2, 5), {}, 14 * 15 * 8, id="gru"),
    pytest.param("RNN", [(7, 2, 3), (1, 5, 3), (1, 5, 5)], (7, 1, 2, 5), {}, 14 * 5 * 8, id="rnn"),
    # batch-major: the first two axes change places
    pytest.param(
        "RNN", [(2, 7, 3), (1, 5, 3), (1, 5, 5)], (2, 7, 1, 5), {"layout": 1}, 14 * 5 * 8, id="rnn-batch-major"
    ),
    # 4 heads: scores 10x12x16, then values 10x12x20
    pytest.param(
        "Attention",
        [(1, 4, 10, 16), (1, 4, 12, 16), (1, 4, 12, 20)],
        (1, 4, 10, 20),
        {},
        4 * 10 * 12 * 36,
        id="attention",
    ),
    # the same heads packed into the last axis
    pytest.param(
        "Attention",
        [(1, 10, 64), (1, 12, 64), (1, 12, 80)],
        (1, 10, 80),
        {"q_num_heads": 4, "kv_num_heads": 4},
        4 * 10 * 12 * 36,
        id="attention-3d",
    ),
    # 4 query heads share 2 key heads: the work is that of 4
    pytest.param(
        "Attention",
        [(1, 4, 10, 16), (1, 2, 12, 16), (1, 2, 12, 16)],
        (1, 4, 10, 16),
        {},
        4 * 10 * 12 * 32,
        id="attention-grouped",
    ),
    # 5 cached keys beside the 12
    pytest.param(
        "Attention",
        [(1, 4, 10, 16), (1, 4, 12, 16), (1, 4, 12, 16), None, (1, 4, 5, 16), (1, 4, 5, 16)],
        (1, 4, 10, 16),
        {},
        4 * 10 * 17 * 32,
        id="attention-cached",
    ),
    # 2x3 matrices at 6x5 positions
    pytest.param("AffineGrid", [(1, 2, 3), (4,)], (1, 6, 5, 2), {}, 30 * 2 * 3, id="affine-grid"),
]


@pytest.mark.parametrize(("op_type", "inputs", "output", "attributes", "expected"), CASES)
def test_hand_worked(
    op_type: str, inputs: list[Shape | None], output: Shape, attributes: dict[str, Any], expected: int
) -> None:
    assert macs(op_type, inputs, output, **attributes) == expected


def test_every_counted_operator_has_a_case() -> None:
    tested = {case.values[0] for case in CASES}
    assert {record.name for record in OPERATORS if record.macs not in (None, zero) and not record.domain} == tested


def test_operators_left_unsupported_are_known() -> None:
    """A new operator of ONNX must get a MAC rule in the catalogue, or a place in this list."""
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if not schema.domain}
    unsupported = {name for name in known if name not in OPERATORS or OPERATORS[name].macs is None}
    assert unsupported <= {
        # control flow that could not be resolved, sequences of unknown length, optional values
        "If",
        "Loop",
        "Scan",
        "SequenceMap",
        "Optional",
        "OptionalGetElement",
        "OptionalHasElement",
        # work that depends on the data, or that is no multiply-add of a network
        "DFT",
        "STFT",
        "Det",
        "ImageDecoder",
        "LinearAttention",
        "MelWeightMatrix",
        "NegativeLogLikelihoodLoss",
        "NonMaxSuppression",
        "SoftmaxCrossEntropyLoss",
        "TfIdfVectorizer",
        "Unique",
        # text
        "RegexFullMatch",
        "StringConcat",
        "StringNormalizer",
        "StringSplit",
    }
