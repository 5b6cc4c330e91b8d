"""What ONNX Runtime is given."""

from __future__ import annotations

from aznas_onnx.verify.reference_run import compare_before_softmax
from tests.graph.builders import network, weights


def test_only_a_final_softmax_is_looked_behind() -> None:
    model = network("s = Softmax (x)  l = MatMul (s, w)  y = Softmax (l)", {"x": ("N", 4)}, {"w": weights(4, 4)})
    for _ in range(2):
        compare_before_softmax(model)
        assert [output.name for output in model.graph.output] == ["l"]
