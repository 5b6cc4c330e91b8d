from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest

from aznas_onnx.costs import count
from aznas_onnx.graph import prepare
from aznas_onnx.graph.constants.provenance import SIGNATURE_KEY
from aznas_onnx.graph.ir.graph import Storage
from aznas_onnx.graph.rewrite.passes import RewrittenGraph, canonicalise, restore_normalisation
from aznas_onnx.graph.rewrite.restore import unfold_batchnorm
from aznas_onnx.graph.rewrite.restore.folded_bn_names import Names, Sign, folded_by, own_bias_by, root
from tests.graph.builders import network, weights
from tests.graph.rewrite.running import check_infos, computes_the_same, folded, operators

MAP = {"x": ("N", 3, 8, 8)}
TORCHSCRIPT = "PyTorch's TorchScript exporter"
DYNAMO = "PyTorch's dynamo exporter"
FACTOR = "ConvMulFusion_Mul_B_gamma"


def restored(model: onnx.ModelProto, protected: tuple[str, ...] = ()) -> RewrittenGraph:
    done = restored_graph(model, protected)
    check_infos(done.graph, done.infos)
    return done


def restored_graph(model: onnx.ModelProto, protected: tuple[str, ...] = ()) -> RewrittenGraph:
    done = canonicalise(*folded(model, protected), protected=protected)
    return restore_normalisation(done.graph, done.infos, protected=protected)


def doubts(model: onnx.ModelProto) -> tuple[str, ...]:
    return restored_graph(model).doubts


def reasons(done: RewrittenGraph) -> list[str]:
    """Return why no normalisation was restored after each layer that has none."""
    assert {miss.pattern for miss in done.near_misses} <= {"folded BatchNormalization"}
    return [miss.reason for miss in done.near_misses]


def rename(model: onnx.ModelProto, names: Mapping[str, str]) -> onnx.ModelProto:
    """Give tensors names that the text format cannot spell."""
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for tensor in model.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    return model


def two_convolutions(
    names: Mapping[str, str], more: Mapping[str, Any] | None = None, body: str = ""
) -> onnx.ModelProto:
    """Two convolutions with biases, and a classifier after them."""
    model = network(
        body
        or """
        c = Conv (x, w, b)
        r = Relu (c)
        d = Conv (r, w2, b2)
        s = Relu (d)
        p = GlobalAveragePool (s)
        f = Flatten (p)
        y = Gemm (f, fc, fc_b)
        """,
        MAP,
        {
            "w": weights(4, 3, 3, 3), "b": weights(4), "w2": weights(4, 4, 3, 3), "b2": weights(4, seed=1),
            "fc": weights(4, 2), "fc_b": weights(2), **(more or {}),
        },
    )  # fmt: skip
    return rename(model, names)


RESTORED = [
    "Conv",
    "BatchNormalization",
    "Relu",
    "Conv",
    "BatchNormalization",
    "Relu",
    "GlobalAveragePool",
    "Flatten",
    "Gemm",
]
AS_IT_WAS = [name for name in RESTORED if name != "BatchNormalization"]


@pytest.mark.parametrize(
    ("names", "by"),
    [
        ({"w": "onnx::Conv_10", "b": "onnx::Conv_11", "w2": "onnx::Conv_13", "b2": "onnx::Conv_14"}, TORCHSCRIPT),
        ({"w": "conv1.weight", "b": "conv1.weight_bias", "w2": "conv2.weight", "b2": "conv2.weight_bias"}, DYNAMO),
        (
            {
                "w": "conv1.weight",
                "b": "conv1.bias",
                "c": "getitem",
                "w2": "a.weight",
                "b2": "a.bias",
                "d": "getitem_3",
            },
            DYNAMO,
        ),
        ({"b": "ConvBnFusion_BN_B_bn1.bias", "b2": "ConvBnFusion_BN_B_bn2.bias"}, "ONNX Runtime"),
        ({"b": "/bn/BatchNormalization_output_0_bias", "b2": "/bn2/BatchNormalization_output_0_bias"}, "the exporter"),
        ({"w": "c_weight", "b": "c_bias", "w2": "d_weight", "b2": "d_bias"}, "onnxslim"),
        ({"w": "497", "b": "498", "w2": "500", "b2": "501"}, "PyTorch's TorchScript exporter or ONNX's optimizer"),
        (
            {
                "w": "m/Conv2D_weights_fused_bn",
                "b": "m/Conv2D_bias_fused_bn",
                "w2": "n/Conv2D_weights_fused_bn",
                "b2": "n/Conv2D_bias_fused_bn",
            },
            "tf2onnx",
        ),
        ({"w": "conv/merged_input:0", "w2": "conv_2/merged_input:0"}, "TensorFlow"),
        ({"c": "bn/batchnorm/add_1:0", "d": "bn_2/batchnorm/add_1:0"}, "the exporter"),
    ],
)
def test_names_of_folded_convolutions(names: dict[str, str], by: str) -> None:
    model = two_convolutions(names)
    result = restored(model)
    assert operators(result.graph) == RESTORED
    assert result.changes == (f"normalisation restored after 2 convolutions (folded by {by})",)
    assert computes_the_same(result.graph, model)


@pytest.mark.parametrize(
    ("names", "by"),
    [
        ({"w": "conv1.weight", "b": "conv1.bias", "w2": "ConvMulFusion_W_conv2.weight", "b2": FACTOR}, ""),
        ({"w": "conv1.weight", "b": "conv1.bias", "w2": "d/Mul_output_0_weight", "d": "d/Mul_output_0"}, ""),
        (
            {"b": "ConvBnFusion_BN_B_bn1.bias", "w2": "ConvMulFusion_W_conv2.weight", "b2": FACTOR},
            unfold_batchnorm._ASSUMED,
        ),
        ({"w": "conv1.weight", "b": "conv1.bias", "w2": "ConvMulFusion_W_onnx::Conv_13", "b2": FACTOR}, TORCHSCRIPT),
    ],
)
def test_a_layer_scale_that_a_tool_multiplied_into_the_weights(names: dict[str, str], by: str) -> None:
    """Its names are lost to that: a genuine bias elsewhere says that nothing else happened to it."""
    result = restored(two_convolutions(names))
    second = [node for node in result.graph.nodes if node.is_op("Conv")][1]
    reader = result.graph.consumers[second.outputs[0]][0]
    assert reader.op_type == ("BatchNormalization" if by else "Relu")
    assert any(by in change for change in result.changes) == bool(by)


@pytest.mark.parametrize(
    "names",
    [
        {"w": "features.0.weight", "b": "features.0.bias", "w2": "features.3.weight", "b2": "features.3.bias"},
        {"w": "conv1_w_0", "b": "conv1_b_0", "w2": "conv2_w_0", "b2": "conv2_b_0"},
        {"b": "p2o.pd_op.reshape.0.0", "b2": "p2o.pd_op.reshape.1.0"},
        {"b": "onnx::Add_424", "b2": "onnx::Add_455"},
        {"b": "ConvAddFusion_Add_B_b", "b2": "ConvAddFusion_Add_B_b2"},
        {"c": "net/conv2d/BiasAdd:0", "d": "net/conv2d_1/BiasAdd:0"},
        {"w": "net/kernel", "b": "net/bias", "w2": "net_1/kernel", "b2": "net_1/bias"},
    ],
)
def test_names_of_genuine_biases(names: dict[str, str]) -> None:
    result = restored(two_convolutions(names))
    assert operators(result.graph) == AS_IT_WAS
    assert result.changes == ()
    sign = Sign.OUTPUT if "c" in names else Sign.BIAS
    assert reasons(result) == [unfold_batchnorm._GENUINE[sign]] * 2


@pytest.mark.parametrize(
    "names",
    [
        {"w": "1", "b": "2", "w2": "3", "b2": "4", "fc": "5", "fc_b": "6"},
        {"w": "kernel_oih_0", "b": "const_1", "w2": "kernel_oih_1", "b2": "const_3"},
        {"w": "m/c/convolution/ReadVariableOp:0", "b": "m/c/Squeeze:0", "w2": "m/d/ReadVariableOp:0", "b2": "m/d/S:0"},
    ],
)
def test_without_word_from_names_nothing_is_put_back(names: dict[str, str]) -> None:
    """Folded or never normalised, the file is the same; the user reads of the doubt."""
    model = two_convolutions(names)
    result = restored(model)
    assert operators(result.graph) == AS_IT_WAS
    assert result.changes == ()
    (doubt,) = doubts(model)
    assert "into 2 convolutions with biases, so none was put back" in doubt
    assert reasons(result) == [unfold_batchnorm._NOTHING_SAID] * 2


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_bias_that_is_added_after_a_convolution_has_no_mark_of_the_convolution(*, is_shared: bool) -> None:
    """Keras on PyTorch adds biases. Where a tool stored equal ones once, the name of the weight would decide."""
    bias = "b" if is_shared else "b2"
    body = f"""
        c = Conv (x, w)  a = Add (c, b)  r = Relu (a)
        d = Conv (r, w2)  e = Add (d, {bias})  s = Relu (e)
        p = GlobalAveragePool (s)  f = Flatten (p)  y = Gemm (f, fc, fc_b)
    """
    names = {"w": "onnx::Conv_404", "b": "onnx::Add_424", "w2": "onnx::Conv_435", "b2": "onnx::Add_455"}
    more = {"b": weights(4, 1, 1), "b2": weights(4, 1, 1, seed=1)}
    result = restored(two_convolutions(names, more, body))
    assert operators(result.graph) == AS_IT_WAS


def test_a_mark_elsewhere_says_nothing_of_a_silent_bias() -> None:
    model = two_convolutions({"w": "onnx::Conv_10", "b": "onnx::Conv_11", "w2": "v2", "b2": "v3"})
    result = restored(model)
    assert operators(result.graph) == [*RESTORED[:4], *AS_IT_WAS[3:]]
    assert reasons(result) == [unfold_batchnorm._NOTHING_SAID]
    assert "into 1 convolution with biases" in doubts(model)[0]


def test_a_convolution_that_lost_its_bias_too() -> None:
    """Before training, what dynamo folds is a bias of zeros, which it removes."""
    body = "getitem = Conv (x, w)  r = Relu (getitem)  conv2d = Conv (r, w2)  y = Relu (conv2d)"
    model = two_convolutions({}, body=body)
    result = restored(model)
    assert operators(result.graph) == ["Conv", "BatchNormalization", "Relu", "Conv", "Relu"]
    assert reasons(result) == [unfold_batchnorm._NO_BIAS]
    assert computes_the_same(result.graph, model)


@pytest.mark.parametrize("has_bias", [False, True])
def test_a_normalisation_that_the_file_lists_without_scale_and_shift(*, has_bias: bool) -> None:
    """What was folded is the layer's own bias where it is listed, and else what the mean was."""
    body = "getitem = Conv (x, w, b)  r = Relu (getitem)  conv2d = Conv (r, w2)  y = Relu (conv2d)"
    model = two_convolutions({"w": "c.weight", "b": "c.bias" if has_bias else "c.weight_bias"}, body=body)
    listed = "p: PARAMETER target='c.weight'\n" + has_bias * "q: PARAMETER target='c.bias'\n"
    model.metadata_props.add(key=SIGNATURE_KEY, value=f"{listed}b: BUFFER target='n.running_mean'")
    graph = restored(model).graph
    convolution, normalisation = graph.nodes[:2]
    assert len(convolution.inputs) == 2 + has_bias
    assert {graph.constants[name].storage for name in normalisation.inputs[1:3]} == {Storage.NOWHERE}
    assert computes_the_same(graph, model)
    assert count(prepare(model)).params == 4 * 27 + 4 * has_bias + 4 * 36


def test_the_shift_is_the_folded_bias_and_no_longer_its_root() -> None:
    result = restored(two_convolutions({"w": "onnx::Conv_10", "b": "onnx::Conv_11"}))
    normalisation = result.graph.nodes[1]
    shift = result.graph.constants[normalisation.inputs[2]]
    assert shift.read is not None
    np.testing.assert_array_equal(shift.read(), weights(4))
    assert shift.sources == frozenset({normalisation.inputs[2]})
    assert len(result.graph.nodes[0].inputs) == 2


def test_the_output_keeps_its_name() -> None:
    model = two_convolutions({"b": "onnx::Conv_11", "b2": "onnx::Conv_14"})
    graph = restored(model, protected=("c",)).graph
    assert graph.producers["c"].op_type == "BatchNormalization"


@pytest.mark.parametrize(
    ("body", "expected", "reason"),
    [
        # squeeze-and-excite works on pooled vectors
        (
            "p = GlobalAveragePool (x)  c = Conv (p, k, b)  s = Sigmoid (c)  t = Conv (s, k4, b2)  y = Relu (t)",
            0, unfold_batchnorm._ON_VECTORS,
        ),
        # the last convolution is the classifier
        ("y = Conv (x, w, b)", 0, unfold_batchnorm._LAST),
        ("y = ConvTranspose (x, up, b)", 0, unfold_batchnorm._TRANSPOSED),
        # a graph that keeps one normalisation was not folded anywhere
        (
            "c = Conv (x, w, b)  n = BatchNormalization (c, g, g, g, g)  d = Conv (n, w2, b2)  e = Conv (d, w2)"
            "  y = Relu (e)",
            0, unfold_batchnorm._KEPT_ELSEWHERE,
        ),
        (
            "c = Conv (x, w, b)  d = Conv (c, w2)  n = InstanceNormalization (d, g, g)  e = Conv (n, w2)  y = Relu (e)",
            0, unfold_batchnorm._NORMALISED_OTHERWISE.format("InstanceNormalization"),
        ),
        # a genuine bias beside it, and no mark of folding
        (
            "c = Conv (x, w, b)  d = Conv (c, w2, genuine_bias)  e = Conv (d, w2)  y = Relu (e)",
            0, unfold_batchnorm._GENUINE_ELSEWHERE,
        ),
        # where nothing speaks against it
        ("c = Conv (x, w, b)  d = Conv (c, w2)  y = Relu (d)", 1, unfold_batchnorm._NOTHING_SAID),
    ],
)  # fmt: skip
def test_what_speaks_against_folding_leaves_no_doubt(body: str, expected: int, reason: str) -> None:
    more = {"k": weights(4, 3, 1, 1), "k4": weights(4, 4, 1, 1), "g": np.abs(weights(4)) + 0.5}
    more |= {"genuine_bias": weights(4, seed=2), "up": weights(3, 4, 2, 2)}
    model = two_convolutions({"b": "11", "b2": "12", "genuine_bias": "conv.bias"}, more, body)
    assert len(doubts(model)) == expected
    assert restored(model).changes == ()
    assert reason in reasons(restored(model))


def test_a_marked_convolution_that_is_normalised_already_stays() -> None:
    body = "c = Conv (x, w, b)  t = Transpose <perm = [0, 2, 3, 1]> (c)  y = LayerNormalization (t, g)"
    model = two_convolutions({"b": "onnx::Conv_11"}, {"g": weights(4)}, body)
    assert operators(restored(model).graph) == ["Conv", "Transpose", "LayerNormalization"]
    assert reasons(restored(model)) == []


def test_transposed_convolutions_and_linear_layers_with_marks() -> None:
    body = """
        c = ConvTranspose <group = 1> (x, up, b)
        p = GlobalAveragePool (c)
        f = Flatten (p)
        getitem_2 = Gemm (f, fc, fc_b)
        y = Relu (getitem_2)
    """
    model = two_convolutions({"b": "onnx::ConvTranspose_4"}, {"up": weights(3, 4, 2, 2)}, body)
    result = restored(model)
    assert operators(result.graph) == [
        "ConvTranspose", "BatchNormalization", "GlobalAveragePool", "Flatten", "Gemm", "BatchNormalization", "Relu",
    ]  # fmt: skip
    assert computes_the_same(result.graph, model)


SLIM_LAYER = "fc/MatMul_output_0"


@pytest.mark.parametrize("ending", ["y = Softmax (f2)", "r = Relu (f2)  y = Gemm (r, fc4, fc_b)"])
def test_a_linear_layer_that_onnxslim_made_was_not_normalised(ending: str) -> None:
    """It makes MatMul and Add one Gemm and names the weight as that of a folded convolution, but folds into no Gemm."""
    body = f"""
        c = Conv (x, w, b)
        p = GlobalAveragePool (c)
        f = Flatten (p)
        f2 = Gemm <transB = 1> (f, fc, fc_b)
        {ending}
    """
    model = two_convolutions(
        {"w": "c_weight", "b": "c_bias", "fc": f"{SLIM_LAYER}_weight", "fc_b": "fc.bias"},
        {"fc": weights(4, 4), "fc4": weights(4, 2), "fc_b": weights(4)} if "fc4" not in ending else
        {"fc": weights(2, 4), "fc4": weights(2, 2), "fc_b": weights(2)},
        body,
    )  # fmt: skip
    for node in model.graph.node:
        if node.output[0] == "f2":
            node.name = SLIM_LAYER
    result = restored(model)
    assert operators(result.graph)[:2] == ["Conv", "BatchNormalization"]
    assert operators(result.graph).count("BatchNormalization") == 1
    assert result.changes == ("normalisation restored after 1 convolution (folded by onnxslim)",)
    assert computes_the_same(result.graph, model)


def test_what_storage_adds_to_a_name_is_ignored() -> None:
    assert root("b", frozenset({"conv.weight_bias_quantized"})) == "conv.weight_bias"
    assert root("sum", frozenset({"a", "b"})) == "sum"


def names(weight: str, bias: str = "", output: str = "conv2d", *, shares_bias: bool = False) -> Names:
    return Names(node="", output=output, weight=weight, bias=bias, shares_bias=shares_bias)


def test_a_bias_that_others_read_has_any_of_their_names() -> None:
    assert folded_by(names("onnx::Conv_10", shares_bias=True)) == TORCHSCRIPT
    assert folded_by(names("ConvBnFusion_W_conv1.weight", shares_bias=True)) == "ONNX Runtime"
    assert folded_by(names("conv1.weight", shares_bias=True)) == ""
    assert own_bias_by(names("conv1.weight", shares_bias=True)) is Sign.WEIGHT
    assert own_bias_by(names("497", shares_bias=True)) is None


def test_a_shared_bias_is_recognised_by_the_weight() -> None:
    body = "c = Conv (x, w, b)  d = Conv (c, w2, b)  y = Conv (d, w2)"
    marked = two_convolutions({"w": "onnx::Conv_1", "w2": "onnx::Conv_2", "b": "norm1.bias"}, body=body)
    assert operators(restored(marked).graph).count("BatchNormalization") == 2
    genuine = two_convolutions({"w": "conv1_w_0", "w2": "conv2_w_0", "b": "ortshared_1_1_4_0"}, body=body)
    assert operators(restored(genuine).graph).count("BatchNormalization") == 0


@pytest.mark.parametrize(
    ("weight", "bias", "genuine"),
    [
        ("conv1.weight", "conv1.bias", True),
        ("conv1_w_0", "conv1_b_0", True),
        ("conv2d_74.w_0", "Add.1_bias", True),
        ("onnx::Conv_1", "onnx::Conv_2", False),
        ("w", "w", False),
        ("conv1.weight", "other_thing", False),
    ],
)
def test_names_of_biases(weight: str, bias: str, *, genuine: bool) -> None:
    assert own_bias_by(names(weight, bias)) is (Sign.BIAS if genuine else None)
    assert own_bias_by(names(weight, bias, "conv/BiasAdd:0")) is not None


@pytest.mark.parametrize("drawn", [True, False])
def test_biases_as_pytorch_initialises_them_are_the_convolutions_own(drawn: bool) -> None:
    """Before training, normalisation shifts nothing, so that what is folded into the bias was there before."""
    values = np.random.default_rng(0).uniform(-1, 1, 64) if drawn else weights(64)
    more = {
        "w": weights(64, 3, 3, 3), "b": (values / np.sqrt(27)).astype(np.float32), "w2": weights(8, 64, 3, 3),
        "b2": np.zeros(8, np.float32), "fc": weights(8, 2),
    }  # fmt: skip
    names = {"w": "onnx::Conv_10", "b": "onnx::Conv_11", "w2": "onnx::Conv_13", "b2": "onnx::Conv_14"}
    result = restored(two_convolutions(names, more))
    first, second = (node for node in result.graph.nodes if node.op_type == "Conv")
    shift = next(node.inputs[2] for node in result.graph.nodes if node.op_type == "BatchNormalization")
    assert (len(first.inputs), len(second.inputs)) == ((3, 2) if drawn else (2, 2))
    assert bool(result.graph.constants[shift].read().any()) is not drawn
