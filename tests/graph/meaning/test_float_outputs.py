"""Networks that end before their file does: by option, at floats, or before what cannot be computed with."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from aznas_onnx.costs import count
from aznas_onnx.errors import ModelError, SettingsError, UnsupportedOperatorError
from aznas_onnx.graph import prepare
from aznas_onnx.inspection import inspect
from aznas_onnx.verify import verify
from tests.graph.builders import network, weights

DETECTOR = """
    f = Conv <pads = [1, 1, 1, 1]> (x, w)
    r = Relu (f)
    b = Conv (r, wb)
    s = Conv (r, ws)
    b2 = Reshape (b, four)
    boxes = Transpose <perm = [0, 2, 1]> (b2)
    s2 = Reshape (s, five)
    scores = Sigmoid (s2)
    kept = NonMaxSuppression (boxes, scores, most, iou, least)
    which = Gather <axis = 1> (kept, last)
    flat = Reshape (boxes, rows)
    y = Gather (flat, which)
"""
NAMED = {
    "w": weights(8, 3, 3, 3), "wb": weights(4, 8, 1, 1), "ws": weights(5, 8, 1, 1), "four": np.array([0, 4, -1]),
    "five": np.array([0, 5, -1]), "rows": np.array([-1, 4]), "most": np.array([10]), "iou": np.array([0.5], np.float32),
    "least": np.array([0.1], np.float32), "last": np.array(2),
}  # fmt: skip


def detector(**options: object) -> onnx.ModelProto:
    return network(DETECTOR, {"x": ("N", 3, 8, 8)}, NAMED)


class TestCutAt:
    def test_tensors_and_nodes_end_a_network(self) -> None:
        model = detector()
        model.graph.node[7].name = "sigmoid"
        read = prepare(model, cut_at=["boxes", "sigmoid"])
        assert read.graph.outputs == ("boxes", "scores")
        assert count(read).macs == 64 * (27 * 8 + 8 * 4 + 8 * 5)

    def test_the_shorter_file_is_verified(self) -> None:
        assert verify(detector(), cut_at=["boxes", "scores"]).agrees

    def test_what_stands_behind_is_not_looked_at(self) -> None:
        model = detector()
        model.graph.node.append(helper.make_node("NoSuchOperator", ["y", "size"], ["z"]))
        model.graph.output[0].name = "z"
        model.graph.input.append(helper.make_tensor_value_info("size", TensorProto.STRING, ["k"]))
        assert list(prepare(model, cut_at=["scores"]).inputs.sample_shapes) == ["x"]

    def test_nodes_may_stand_in_any_order(self) -> None:
        model = detector()
        nodes = list(model.graph.node)[::-1]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        assert prepare(model, cut_at=["r"]).graph.outputs == ("r",)

    def test_a_name_that_is_not_there(self) -> None:
        with pytest.raises(SettingsError, match=r"--cut-at names 'score', .*did you mean 'scores'"):
            prepare(detector(), cut_at=["score"])
        read = prepare(detector(), cut_at=["scores", "elsewhere"])  # another network of the command may have it
        assert "--cut-at names 'elsewhere', which this network does not have" in read.warnings


class TestLabels:
    @pytest.mark.parametrize("dtype", [TensorProto.INT64, TensorProto.FLOAT])
    def test_one_beside_a_float_output_is_left_out(self, dtype: int) -> None:
        body = f"h = MatMul (x, w)  y = Softmax (h)  a = ArgMax <axis = 1> (h)  label = Cast <to = {dtype}> (a)"
        model = network(body, {"x": ("N", 8)}, {"w": weights(8, 4)}, outputs=("label", "y"))
        model.graph.output[0].type.tensor_type.elem_type = dtype
        read = prepare(model)
        assert read.graph.outputs == ("y",)
        (change,) = read.changes
        assert re.match(r"left out what is no float among the outputs: 'label' .*; scored up to 'y'", change)
        assert verify(model).agrees

    def test_where_it_has_a_branch_of_its_own_that_stays(self) -> None:
        body = "y = MatMul (x, w)  h = MatMul (x, v)  label = ArgMax <axis = 1> (h)"
        model = network(body, {"x": ("N", 8)}, {"w": weights(8, 4), "v": weights(8, 5)}, outputs=("y", "label"))
        model.graph.output[1].type.tensor_type.elem_type = TensorProto.INT64
        read = prepare(model)
        assert read.graph.outputs == ("y", "h")
        assert count(read).macs == 8 * 9

    def test_where_it_is_alone_the_network_ends_before_it(self) -> None:
        body = "h = Conv (x, w)  y = ArgMax <axis = 1> (h)"
        model = network(body, constants={"w": weights(4, 3, 1, 1)})
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
        assert prepare(model).graph.outputs == ("h",)

    def test_a_map_is_what_it_maps(self) -> None:
        body = "h = MatMul (x, w)  p = Softmax (h)  y = ai.onnx.ml.ZipMap <classlabels_int64s = [0, 1, 2, 3]> (p)"
        model = network(body, {"x": ("N", 8)}, {"w": weights(8, 4)})
        model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
        mapped = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
        model.graph.output[0].CopyFrom(helper.make_value_info("y", helper.make_sequence_type_proto(mapped)))
        assert prepare(model).graph.outputs == ("p",)


class TestGaps:
    def test_the_refusal_names_where_to_cut(self) -> None:
        with pytest.raises(UnsupportedOperatorError) as raised:
            prepare(detector())
        message = str(raised.value)
        assert "(NonMaxSuppression) makes a tensor whose shape depends on data" in message
        names = re.findall(r"--cut-at (\S+)", message)
        assert sorted(names) == ["boxes", "scores"]
        assert count(prepare(detector(), cut_at=names)).unsupported == {}

    @pytest.mark.parametrize("operator", ["vendor.Fancy", "Fancy"])
    def test_an_unknown_operator_is_counted_around(self, operator: str) -> None:
        body = f"a = Conv (x, w)  r = Relu (a)  d = {operator} (r, v)  y = Add (d, r)"
        model = network(body, constants={"w": weights(4, 3, 1, 1), "v": weights(4, 4)})
        if "." in operator:
            model.opset_import.append(helper.make_opsetid("vendor", 1))
        with pytest.raises(UnsupportedOperatorError, match=r"Fancy.*export .* again .*end the network before it: .*r$"):
            prepare(model)
        inspection = inspect(model)
        assert inspection.costs.macs == 64 * 12
        assert inspection.costs.params == 12 + 16
        assert list(inspection.costs.unsupported) == [operator.replace(".", "::")]
        assert any("counts are incomplete: node " in warning for warning in inspection.warnings)

    def test_integers_that_an_unknown_operator_makes_fit_what_reads_them(self) -> None:
        body = "i = vendor.Pick (x)  one = Constant <value_int = 1> ()  j = Add (i, one)  y = Gather <axis = 1> (x, j)"
        model = network(body)
        model.opset_import.append(helper.make_opsetid("vendor", 1))
        assert any("vendor::Pick" in warning for warning in inspect(model).warnings)

    def test_a_branch_on_an_input_names_the_option(self) -> None:
        model = steered()
        with pytest.raises(
            UnsupportedOperatorError, match=r"\(If\): its condition depends on data; .*--value rate=\.\.\."
        ):
            prepare(model)
        inspection = inspect(model)
        assert inspection.costs.unsupported == {"If": 1}
        assert inspection.costs.macs == 64 * 12  # of what stands before
        for rate, macs in ((16000, 64 * 28), (8000, 64 * 12)):
            assert inspect(model, values={"rate": rate}).costs.macs == macs


def steered() -> onnx.ModelProto:
    """Return a model that computes more for one value of an input than for others."""
    body = """
        a = Conv (x, w)
        wide = Equal (rate, high)
        y = If (wide) <
            then_branch = t () => (float[N, 4, 8, 8] p) { p = Conv (a, v) },
            else_branch = e () => (float[N, 4, 8, 8] q) { q = Relu (a) }
        >
    """
    constants = {"w": weights(4, 3, 1, 1), "v": weights(4, 4, 1, 1), "high": np.array(16000)}
    model = network(body, {"x": ("N", 3, 8, 8)}, constants)
    model.graph.input.append(helper.make_tensor_value_info("rate", TensorProto.INT64, []))
    return model


class TestValues:
    def lengths(self) -> onnx.ModelProto:
        """Return a model whose mask is made of lengths."""
        body = """
            m = ReduceMax <keepdims = 0> (lengths)
            r = Range (zero, m, one)
            u = Unsqueeze (lengths, axis)
            k = Less (r, u)
            f = Cast <to = 1> (k)
            g = Unsqueeze (f, last)
            h = MatMul (x, w)
            y = Mul (h, g)
        """
        constants = {"zero": np.array(0), "one": np.array(1), "axis": np.array([1]), "last": np.array([2])}
        model = network(body, {"x": ("N", 6, 8)}, {**constants, "w": weights(8, 4)})
        model.graph.input.append(helper.make_tensor_value_info("lengths", TensorProto.INT64, ["N"]))
        return model

    def test_a_length_gives_a_shape(self) -> None:
        with pytest.raises(UnsupportedOperatorError, match=r"\(Range\) .*; what decides is input 'lengths'"):
            prepare(self.lengths())
        read = prepare(self.lengths(), values={"lengths": 6})
        assert read.infos.shape("y") == (2, 6, 4)
        assert not read.fixed_batch
        assert read.changes == ("input 'lengths' is 6 throughout, as --value says",)
        assert verify(self.lengths(), values={"lengths": 6}).agrees

    def test_a_layer_on_a_given_value_is_still_a_layer(self) -> None:
        body = "c = Cast <to = 1> (t)  u = Unsqueeze (c, axis)  e = MatMul (u, w)  y = Add (x, e)"
        model = network(body, {"x": ("N", 8)}, {"w": weights(1, 8), "axis": np.array([1])})
        model.graph.input.append(helper.make_tensor_value_info("t", TensorProto.INT64, ["N"]))
        assert count(prepare(model, values={"t": 500})).macs == 8

    def test_several_numbers_fill_an_axis(self) -> None:
        model = network("y = Resize (x, , , size)", {"x": ("N", 3, 8, 8)})
        model.graph.input.append(helper.make_tensor_value_info("size", TensorProto.INT64, ["k"]))
        assert prepare(model, values={"size": [2, 3, 4, 4]}).infos.shape("y") == (2, 3, 4, 4)

    def test_truth_values(self) -> None:
        model = steered()
        model.graph.node[1].CopyFrom(helper.make_node("Identity", ["rate"], ["wide"]))
        model.graph.input[1].CopyFrom(helper.make_tensor_value_info("rate", TensorProto.BOOL, [1]))
        assert inspect(model, values={"rate": False}).costs.macs == 64 * 12

    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            ({"nothing": 1}, "--value names 'nothing', but the inputs are 'rate', 'x'"),
            ({"rate": 0.5}, "gives input 'rate' 0.5, which int64 cannot hold"),
            ({"rate": float("nan")}, "gives input 'rate' nan, which int64 cannot hold"),
            ({"rate": "fast"}, "numbers, true or false are accepted"),
            ({"rate": []}, "numbers, true or false are accepted"),
            ({"rate": [1, 2]}, r"2 numbers, which do not fit its shape \(\)"),
            ({"rate": 10**30}, "numbers, true or false are accepted"),
        ],
    )
    def test_what_does_not_fit(self, values: dict[str, object], reason: str) -> None:
        with pytest.raises(SettingsError, match=reason):
            prepare(steered(), values=values)  # type: ignore[arg-type]

    def test_the_samples_have_no_value(self) -> None:
        model = network("y = Relu (x)", {"x": ("N", 8)})
        with pytest.raises(ModelError, match=r"no float input is left .*; give 'x' no --value"):
            prepare(model, values={"x": 1})

    def test_a_name_of_another_network_is_passed_over(self) -> None:
        read = prepare(steered(), values={"rate": 1, "other": 2})
        assert "--value names 'other', which this network does not have" in read.warnings


def test_graphs_need_no_names() -> None:
    model = steered()
    model.graph.name = ""
    for attribute in model.graph.node[2].attribute:
        attribute.g.name = ""
    assert inspect(model, values={"rate": 1}).costs.macs == 64 * 12


def test_weights_behind_a_cut_need_not_be_there() -> None:
    model = detector()
    tensor = numpy_helper.from_array(weights(5, 8, 1, 1), "ws")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="elsewhere.bin")
    model.graph.initializer[2].CopyFrom(tensor)
    assert prepare(model, cut_at=["boxes"]).graph.outputs == ("boxes",)
