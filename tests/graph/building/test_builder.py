from __future__ import annotations

import json
import math

import numpy as np
import onnx
import pytest

from aznas_onnx.blocks import find_blocks
from aznas_onnx.errors import SettingsError
from aznas_onnx.graph import prepare
from aznas_onnx.graph.building import built_network
from aznas_onnx.graph.building.builder import GraphBuilder, fill_weights, weight_shapes


def small_network() -> GraphBuilder:
    net = GraphBuilder("small")
    x = net.relu(net.conv_bn(net.image_input(3, 8), "stem", 3, 4, kernel=3, stride=2, bias=True), "stem.relu")
    net.declare_block(x)
    x = net.add(x, net.conv(x, "depthwise", 4, 4, kernel=5, groups=4), "sum")
    net.declare_block(x)
    return net


def small_model() -> onnx.ModelProto:
    net = small_network()
    return net.model(net.classifier("sum", "head", 4, num_classes=2), num_outputs=2, metadata={"note": "kept"})


def test_weights_are_shapes_with_the_names_of_a_state_dict() -> None:
    assert dict(weight_shapes(small_model())) == {
        "stem.conv.weight": (4, 3, 3, 3),
        "stem.conv.bias": (4,),
        "stem.bn.weight": (4,),
        "stem.bn.bias": (4,),
        "stem.bn.running_mean": (4,),
        "stem.bn.running_var": (4,),
        "depthwise.weight": (4, 1, 5, 5),
        "head.weight": (2, 4),
        "head.bias": (2,),
    }


def test_a_weight_costs_as_little_however_large() -> None:
    net = GraphBuilder("large")
    net.gemm(net.image_input(3, 8), "layer", 10**6, 10**6)
    assert net.model("layer").ByteSize() < 1000


@pytest.mark.parametrize("opset", [17, 18, 20])
def test_the_model_is_valid_and_shapes_follow(opset: int) -> None:
    net = GraphBuilder("tokens", opset=opset)
    x = net.transpose(net.reshape(net.image_input(3, 8), "flat", (0, 3, 64)), "tokens", (0, 2, 1))
    parts = net.split(net.linear(net.layer_norm(x, "norm", 3), "qkv", 3, 6), "parts", 3, 2)
    net.node("MatMul", parts[0], net.transpose(parts[1], "keys", (0, 2, 1)), name="scores")
    x = net.node("MatMul", "scores", parts[2], name="mixed")
    model = net.model(net.gemm(net.reshape(x, "joined", (0, 128)), "head", 128, 5), num_outputs=5)
    onnx.checker.check_model(model, full_check=True)
    shapes = {
        value.name: value.type.tensor_type.shape for value in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    assert [dim.dim_value or dim.dim_param for dim in shapes["mixed"].dim] == ["batch", 64, 2]
    assert model.opset_import[0].version == opset


def test_slices_take_a_range_of_one_axis() -> None:
    import onnxruntime

    net = GraphBuilder("slices")
    x = net.image_input(6, 4)
    first = net.slice(x, "first", 0, 3, axis=1)
    both = net.add(first, net.slice(x, "last", 3, 6, axis=1), "both")
    model = net.model(net.reshape(both, "flat", (0, 48)), num_outputs=48)
    image = np.random.default_rng(0).random((2, 6, 4, 4)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"input": image})
    assert np.array_equal(found.reshape(2, 3, 4, 4), image[:, :3] + image[:, 3:])


def test_metadata_names_the_blocks_and_keeps_what_is_given() -> None:
    metadata = {entry.key: entry.value for entry in small_model().metadata_props}
    assert json.loads(metadata["aznas.blocks"]) == ["stem.relu", "sum"]
    assert metadata["note"] == "kept"


def test_where_no_block_is_declared_the_metadata_says_nothing() -> None:
    net = GraphBuilder("plain")
    model = net.model(net.classifier(net.image_input(3, 8), "head", 3, num_classes=2))
    assert not model.metadata_props


def test_a_network_can_be_declared_a_transformer() -> None:
    net = small_network()
    net.declare_transformer()
    model = net.model(net.classifier("sum", "head", 4, num_classes=2))
    assert find_blocks(prepare(model)).is_transformer
    assert not find_blocks(prepare(small_model())).is_transformer


def test_networks_on_token_ids_with_an_output_for_each_token() -> None:
    import onnxruntime

    net = GraphBuilder("tokens")
    found = net.node("Gather", net.weight("table", (9, 4)), net.token_input(5), name="embedded", axis=0)
    network = net.finish(net.linear(found, "head", 4, 3), num_outputs=(5, 3))
    assert network.graph().inputs[0].dtype == np.int64
    model = network.model()
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"input_ids": np.zeros((2, 5), np.int64)})
    assert output.shape == (2, 5, 3)


def test_a_name_is_given_once() -> None:
    net = small_network()
    with pytest.raises(SettingsError, match="graph 'small': the name 'sum' is given to two tensors"):
        net.relu("sum", "sum")


def test_filled_weights_give_the_network_its_values() -> None:
    import onnxruntime

    model = small_model()
    before = model.SerializeToString()
    rng = np.random.default_rng(0)
    values = {name: rng.random(shape).astype(np.float32) for name, shape in weight_shapes(model).items()}
    filled = fill_weights(model, values)
    assert model.SerializeToString() == before
    onnx.checker.check_model(filled, full_check=True)
    assert {tensor.name for tensor in filled.graph.initializer} == set(values)
    assert not any(node.op_type == "ConstantOfShape" for node in filled.graph.node)
    session = onnxruntime.InferenceSession(filled.SerializeToString(), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"input": np.zeros((1, 3, 8, 8), np.float32)})
    bn = {part: values[f"stem.bn.{part}"] for part in ("weight", "bias", "running_mean", "running_var")}
    stem = (values["stem.conv.bias"] - bn["running_mean"]) / np.sqrt(bn["running_var"] + 1e-5) * bn["weight"] + bn[
        "bias"
    ]
    plane = np.zeros((8, 8))
    plane[2:6, 2:6] = 1  # the 4x4 output of the stem with the padding of the depthwise convolution
    windows = np.lib.stride_tricks.sliding_window_view(plane, (5, 5))
    depthwise = np.einsum("hwij,cij->chw", windows, values["depthwise.weight"][:, 0])
    pooled = np.maximum(stem, 0) * (1 + depthwise.mean((1, 2)))
    np.testing.assert_allclose(output[0], values["head.weight"] @ pooled + values["head.bias"], rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head.bias": None}, "weight 'head.bias' has no value"),
        ({"other": np.zeros(1, np.float32)}, "weight 'other' does not exist"),
        ({"head.bias": np.zeros(3, np.float32)}, "weight 'head.bias' has shape (2,), but the value given has (3,)"),
    ],
)
def test_values_that_do_not_fit(change: dict[str, np.ndarray | None], message: str) -> None:
    model = small_model()
    values = {name: np.zeros(shape, np.float32) for name, shape in weight_shapes(model).items()} | change
    with pytest.raises(SettingsError) as caught:
        fill_weights(model, {name: value for name, value in values.items() if value is not None})
    assert message in str(caught.value)


def test_an_attribute_that_is_none_is_left_out() -> None:
    net = GraphBuilder("leaky")
    x = net.node("LeakyRelu", net.conv(net.image_input(3, 8), "conv", 3, 4, kernel=3), name="leaky", alpha=None)
    model = net.model(net.classifier(x, "head", 4, num_classes=2))
    (node,) = [node for node in model.graph.node if node.op_type == "LeakyRelu"]
    assert not node.attribute


def test_one_and_one_point_zero_stay_apart() -> None:
    net = GraphBuilder("numbers")
    x = net.conv(net.image_input(3, 8), "conv", 3, 4, kernel=3)
    for number, value in enumerate((1, 1.0, 1)):
        x = net.node("Elu", x, name=f"elu{number}", alpha=value)
    types = [
        node.attribute[0].type
        for node in net.model(net.classifier(x, "head", 4, num_classes=2)).graph.node
        if node.op_type == "Elu"
    ]
    assert types == [2, 1, 2]  # INT, FLOAT, INT


def noted(**attributes: object) -> GraphBuilder:
    net = GraphBuilder("noted")
    net.node("Any", net.image_input(3, 8), name="y", **attributes)
    return net


def test_equal_steps_of_two_networks_are_one() -> None:
    first, second = (small_network().finish("sum").graph() for _ in range(2))
    assert all(ours is theirs for ours, theirs in zip(first.nodes, second.nodes, strict=True))
    assert all(first.constants[name] is constant for name, constant in second.constants.items())


@pytest.mark.parametrize("values", [(1, 1.0, True), ((1, 2), (1.0, 2.0)), ([1, 2], [1.0, 2.0]), ("1", 1)])
def test_attributes_that_differ_in_type_are_distinguished(values: tuple[object, ...]) -> None:
    for value in (*values, *values):
        network_of = noted(value=value).finish("y")
        (found,) = (node.attributes["value"] for node in network_of.graph().nodes)
        (written,) = network_of.model().graph.node[0].attribute
        wanted = tuple(value) if isinstance(value, list) else value
        assert found == wanted
        assert type(found) is type(wanted)
        if isinstance(found, tuple) and isinstance(wanted, tuple):
            assert list(map(type, found)) == list(map(type, wanted))
        assert written == onnx.helper.make_attribute("value", value)


def test_a_model_that_is_changed_changes_no_other() -> None:
    changed = small_model()
    for node in changed.graph.node:
        node.name += "!"
    assert not any(node.name.endswith("!") for node in small_model().graph.node)


def test_what_is_remembered_of_drawings_is_bounded() -> None:
    for cache in (
        built_network._equal_node,
        built_network._node_proto,
        built_network._weight_proto,
        built_network._equal_attributes,
    ):
        limit = cache.cache_info().maxsize
        assert limit is not None
        assert limit <= 8192


def test_zeros_of_both_signs_are_kept_apart() -> None:
    nodes = [built_network.make_node("Elu", 6, ("x",), ("y",), "n", {"alpha": alpha}) for alpha in (0.0, -0.0)]
    assert [math.copysign(1.0, float(str(node.attributes["alpha"]))) for node in nodes] == [1.0, -1.0]
