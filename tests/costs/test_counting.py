from __future__ import annotations

import contextlib

import onnx
import pytest

from aznas_onnx.costs import Costs, CountStatus, NodeCost, count
from aznas_onnx.errors import AznasError
from aznas_onnx.graph import prepare, specialise
from aznas_onnx.inspection import inspect
from tests.graph.builders import network, weights

BODY = """
    a = Conv <pads = [1, 1, 1, 1]> (x, w)
    b = Relu (a)
    c = GlobalAveragePool (b)
    d = Flatten (c)
    y = Gemm (d, fc)
"""
CONSTANTS = {"w": weights(4, 3, 3, 3), "fc": weights(4, 10)}


@pytest.mark.parametrize("batch", [1, 6, "N"])
def test_counts_are_for_one_sample(batch: int | str) -> None:
    model = prepare(network(BODY, {"x": (batch, 3, 8, 8)}, CONSTANTS), keep_graph=True)
    costs = count(model)
    assert costs.macs == 4 * 27 * 64 + 40
    assert costs.params == 108 + 40
    # Conv and Relu 4x8x8, the pool 4, the classifier 10; Flatten is a view
    assert costs.activation_bytes == 4 * (256 + 256 + 4 + 10)


def test_counts_do_not_follow_the_batch_size() -> None:
    model = prepare(network(BODY, {"x": ("N", 3, 8, 8)}, CONSTANTS), keep_graph=True)
    assert count(specialise(model, 7)) == count(model)


def test_per_node_and_per_operator() -> None:
    costs = count(prepare(network(BODY, constants=CONSTANTS), keep_graph=True))
    conv = costs.nodes[0]
    assert (conv.operator, conv.status, conv.macs, conv.params) == ("Conv", CountStatus.COUNTED, 6912, 108)
    assert [node.status for node in costs.nodes[1:4]] == [CountStatus.ZERO] * 3
    assert list(costs.by_operator()) == ["Conv", "Gemm", "Flatten", "GlobalAveragePool", "Relu"]
    assert costs.of([conv.node]) == Costs(nodes=(conv,))
    assert costs.unsupported == {}


def test_an_uncounted_operator_is_shown() -> None:
    costs = count(prepare(network("a = Conv (x, w)  d = Det (a)  y = Relu (d)", constants={"w": weights(4, 3, 1, 1)})))
    assert costs.unsupported == {"Det": 1}
    assert costs.nodes[1] == NodeCost(
        node=costs.nodes[1].node, operator="Det", status=CountStatus.UNSUPPORTED, macs=0, params=0, activation_bytes=16
    )


def test_work_that_no_sample_causes_is_not_divided() -> None:
    """A side input without a batch: its product is computed once, whatever the batch."""
    model = network(
        "a = MatMul (side, w)  b = MatMul (x, v)  y = Add (a, b)",
        {"x": (4, 6, 8), "side": (6, 8)},
        {"w": weights(8, 8), "v": weights(8, 8, seed=1)},
    )
    assert [node.macs for node in count(prepare(model)).nodes if node.macs] == [6 * 64, 6 * 64]


def test_an_operator_that_its_opset_does_not_know_has_no_count() -> None:
    model = network("a = Conv (x, w)  y = Attention (a)", {"x": ("N", 3, 8, 8)}, CONSTANTS)
    model.opset_import[0].version = 18  # so that ONNX does not check how many inputs it has
    costs = inspect(model).costs
    assert [node.status for node in costs.nodes if node.operator == "Attention"] == [CountStatus.UNSUPPORTED]


LATER = sorted(
    {one.name for one in onnx.defs.get_all_schemas_with_history() if one.domain == "" and one.since_version > 9}
)


@pytest.mark.parametrize("operator", [name for name in LATER if not onnx.defs.has(name, 9)])
def test_no_rule_reads_inputs_that_an_operator_of_later_may_lack(operator: str) -> None:
    body = f"a = Conv (x, w)  b = GlobalAveragePool (a)  c = {operator} (b)  y = Relu (c)"
    model = network(body, {"x": ("N", 3, 8, 8)}, CONSTANTS)
    model.opset_import[0].version = 9
    with contextlib.suppress(AznasError):  # or it is refused in a sentence
        assert inspect(model).costs.macs > 0
