"""The comparison with ONNX Runtime: it agrees where it should, and it can tell where it should not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from aznas_onnx.errors import ModelError
from aznas_onnx.graph import Graph, TensorInfos
from aznas_onnx.verify import Comparison, Verdict, Verification, VerificationError, verify
from tests.graph.builders import network, weights

if TYPE_CHECKING:
    from aznas_onnx.convert.program import Program

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
classifier (float[{batch}, 3, 8, 8] x) => (float[{batch}, 5] y) {{
    c = Conv <pads = [1, 1, 1, 1]> (x, w, b)
    r = Relu (c)
    p = GlobalAveragePool (r)
    f = Reshape (p, shape)
    l = MatMul (f, m)
    y = Softmax (l)
}}"""


def classifier(batch: str = "N") -> onnx.ModelProto:
    model = onnx.parser.parse_model(TEXT.format(batch=batch))
    zeros = {"w": (6, 3, 3, 3), "b": (6,), "m": (6, 5)}
    for name, shape in zeros.items():
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), name))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1 if batch == "1" else -1, 6]), "shape"))
    return model


@pytest.mark.parametrize("batch", ["1", "N"])
def test_a_classifier_with_blank_weights_agrees(batch: str) -> None:
    result = verify(classifier(batch), batch_size=3)
    assert result.agrees
    assert result.relative_difference < 1e-5
    assert result.output == "l", "the logits are compared, not the probabilities"


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "double"])
def test_other_floats_are_compared_as_float32(kind: str) -> None:
    result = verify(in_precision(kind))
    assert result.precision == {"double": "float64"}.get(kind, kind)
    assert result.tolerance == 1e-3
    assert result.agrees
    assert result.relative_difference < 1e-4


def in_precision(kind: str) -> onnx.ModelProto:
    """A network that computes in another float between casts, with a constant of it in a node."""
    body = f"""
        h = Cast <to = {CODES[kind]}> (x)
        c = Conv <pads = [1, 1, 1, 1]> (h, w, b)
        r = Relu (c)
        g = GlobalAveragePool (r)
        f = Flatten (g)
        m = MatMul (f, v)
        k = CastLike (one, m)
        s = Add (m, k)
        y = Cast <to = 1> (s)
    """
    constants = {"w": weights(6, 3, 3, 3), "b": weights(6), "v": weights(6, 5), "one": np.float32(1)}
    model = network(body, {"x": ("N", 3, 8, 8)}, constants)
    for tensor in list(model.graph.initializer)[:3]:
        values = numpy_helper.to_array(tensor).astype(onnx.helper.tensor_dtype_to_np_dtype(CODES[kind]))
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return model


CODES = {"float16": 10, "double": 11, "bfloat16": 16}


def test_a_wrong_conversion_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    import aznas_onnx.convert
    import aznas_onnx.verify.compare

    compile_program = aznas_onnx.convert.compile_program

    def without_weight(graph: Graph, infos: TensorInfos, constants: dict[str, torch.Tensor], **options: Any) -> Program:
        return compile_program(graph, infos, {**constants, "w": torch.zeros(6, 3, 3, 3)}, **options)

    monkeypatch.setattr(aznas_onnx.verify.compare, "compile_program", without_weight)
    result = verify(classifier())
    assert not result.agrees
    assert result.relative_difference > 1e-2


def test_what_onnxruntime_refuses_is_said() -> None:
    model = classifier()
    node = next(node for node in model.graph.node if node.op_type == "Relu")
    node.op_type, node.domain = "Gelu", "com.microsoft"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert verify(model).agrees
    node.op_type = "NoSuchOperator"
    with pytest.raises((VerificationError, ModelError), match="NoSuchOperator"):
        verify(model)


def test_a_file_whose_weights_are_not_there_cannot_be_run(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    model = network("c = Conv (x, w)  y = Relu (c)", constants={"w": weights(4, 3, 3, 3)})
    onnx.save(model, path, save_as_external_data=True, location="net.data", size_threshold=16)
    assert verify(path).agrees
    (tmp_path / "net.data").unlink()
    with pytest.raises(ModelError, match=r"net\.onnx: ONNX Runtime needs the external data of the file to run it"):
        verify(path)


def test_errors_name_the_model() -> None:
    body = "q = QuantizeLinear (x, s, z)  m = MatMulInteger (q, w)  y = Cast <to = 1> (m)"
    model = network(body, {"x": ("N", 3)}, {"s": np.float32(0.1), "z": np.int8(0), "w": np.eye(3, dtype=np.int8)})
    with pytest.raises(ModelError, match=r"^g: node 'MatMulInteger_1': .* export the float model, before quantisation"):
        verify(model)


NORMALISED = """<ir_version: 8, opset_import: ["" : 17]>
net (float[2, 3, 8, 8] x) => (float[2, 3, 8, 8] y) {
    a, b, c = BatchNormalization <training_mode = 1> (x, scale, shift, mean, variance)
    y = Relu (a)
}"""


@pytest.mark.parametrize("batch_size", [2, 6])
def test_statistics_of_the_batch_are_compared_where_the_batch_is_one(batch_size: int) -> None:
    model = onnx.parser.parse_model(NORMALISED)
    for name, value in {"scale": 1.5, "shift": 0.5, "mean": 0.25, "variance": 2.0}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.full(3, value, np.float32), name))
    assert verify(model, batch_size=batch_size).relative_difference < 1e-5


DEAD = """
    c = Conv (x, w)
    n = BatchNormalization (c, scale, shift, mean, variance)
    r = Relu (n)
    g = GlobalAveragePool (r)
    y = Flatten (g)
"""


def fresh() -> onnx.ModelProto:
    """A network before training: running means are zeros, variances ones."""
    vectors = {name: np.full(8, value, np.float32) for name, value in FRESH.items()}
    return network(DEAD, {"x": ("N", 3, 8, 8)}, {"w": weights(8, 3, 3, 3), **vectors})


FRESH = {"scale": 1.0, "shift": 0.0, "mean": 0.0, "variance": 1.0}


@pytest.mark.parametrize("make", [fresh, classifier, lambda: in_precision("bfloat16")])
def test_zeros_in_place_of_samples_are_seen(make: Callable[[], onnx.ModelProto]) -> None:
    assert verify(make()).agrees
    sabotaged = verify(make(), feed_zeros=True)
    assert sabotaged.verdict is Verdict.DIFFERS
    assert sabotaged.relative_difference > 0.1, "as much as two samples differ by"


def test_deep_networks_pass_on_what_samples_differ_in() -> None:
    """Sixty layers whose shifts were far above their signal, and gates that saturate."""
    layers, constants = ["l0 = Conv <pads = [1, 1, 1, 1]> (x, w0)"], {"w0": weights(8, 3, 3, 3)}
    for i in range(1, 60):
        layers += [
            f"r{i} = Relu (l{i - 1})  g{i} = Sigmoid (r{i})  s{i} = Mul (r{i}, g{i})",
            f"l{i} = Conv (s{i}, w{i}, b{i})",
        ]
        constants |= {f"w{i}": 1e-3 * weights(8, 8, 1, 1, seed=i), f"b{i}": 5 + weights(8, seed=i)}
    body = " ".join([*layers, "p = GlobalAveragePool (l59)  y = Flatten (p)"])
    result = verify(network(body, {"x": ("N", 3, 8, 8)}, constants))
    assert result.agrees
    assert result.variation > 0.01
    assert verify(network(body, {"x": ("N", 3, 8, 8)}, constants), feed_zeros=True).verdict is Verdict.DIFFERS


def test_a_quantised_table_is_looked_up_here_and_there() -> None:
    body = "r = Gather (table, ids)  e = DequantizeLinear (r, s, z)  m = MatMul (e, w)  y = Relu (m)"
    table = (40 * weights(50, 8)).astype(np.int8)
    constants = {"table": table, "s": np.float32(0.02), "z": np.int8(3), "w": weights(8, 5)}
    model = network(body, {"ids": ("N", 6)}, constants, input_type=onnx.TensorProto.INT64)
    assert verify(model).agrees
    assert verify(model, feed_zeros=True).verdict is Verdict.DIFFERS


def test_ids_weigh_as_much_as_their_positions() -> None:
    body = """
        r = Gather (table, ids)  e = Add (r, positions)
        n = LayerNormalization (e, scale, shift)  y = MatMul (n, w)
    """
    constants = {"table": 0.02 * weights(2000, 16), "positions": 0.02 * weights(6, 16, seed=1), "w": weights(16, 5)}
    constants |= {"scale": np.ones(16, np.float32), "shift": np.zeros(16, np.float32)}
    result = verify(network(body, {"ids": ("N", 6)}, constants, input_type=onnx.TensorProto.INT64))
    assert result.agrees
    assert result.variation > 0.1


def test_a_constant_proves_nothing() -> None:
    body = "s = Sub (x, x)  c = Conv (s, w)  y = GlobalAveragePool (c)"
    result = verify(network(body, {"x": ("N", 3, 8, 8)}, {"w": weights(8, 3, 3, 3)}))
    assert result.verdict is Verdict.CANNOT_TELL
    assert not result.agrees
    assert not result.inner


@pytest.mark.parametrize("batch", ["N", 1, 2])
def test_before_an_output_that_samples_do_not_change_the_last_tensor_that_they_do_is_compared(batch: int | str) -> None:
    """A head on the class token alone, behind no attention."""
    body = """
        c = Conv <strides = [4, 4]> (x, w)  r = Reshape (c, rows)  t = Transpose <perm = [0, 2, 1]> (r)
        n = Shape <start = 0, end = 1> (x)  s = Concat <axis = 0> (n, ones)  e = Expand (token, s)
        j = Concat <axis = 1> (e, t)  m = MatMul (j, v)  k = Relu (m)  h = Add (j, k)
        f = Gather <axis = 1> (h, first)  y = MatMul (f, v)  z = ReduceMean <keepdims = 0, axes = [1]> (t)
    """
    constants = {
        "w": weights(8, 3, 4, 4), "rows": np.array([0, 8, 4]), "ones": np.array([1, 1]), "token": weights(1, 1, 8),
        "v": weights(8, 8), "first": np.array(0),
    }  # fmt: skip
    model = network(body, {"x": (batch, 3, 8, 8)}, constants, outputs=("y", "z"), opset=17)
    result = verify(model)
    assert result.agrees
    assert [one.output for one in result.outputs] == ["z", "h"]
    assert result.inner == ("h",)
    assert verify(model, feed_zeros=True).verdict is Verdict.DIFFERS


def test_a_network_that_scales_pixels_is_fed_values_of_their_size() -> None:
    """Keras's networks begin with x / 127.5 - 1: to them, standard normal samples are nearly all the same."""
    body = """
        d = Div (x, half)  s = Sub (d, one)  c = Conv (s, w)  r = Relu (c)  e = Conv (r, v)  k = Relu (e)
        p = GlobalAveragePool (k)  y = Flatten (p)
    """
    constants = {"half": np.float32(5000), "one": np.float32(1), "w": weights(8, 3, 3, 3), "v": weights(8, 8, 3, 3)}
    result = verify(network(body, {"x": ("N", 3, 8, 8)}, constants))
    assert result.agrees
    assert result.seed == 1
    assert not result.inner


def test_dropout_of_a_training_export_drops_nothing() -> None:
    body = "c = Conv (x, w)  r = Relu (c)  d = Dropout (r, half, yes)  p = GlobalAveragePool (d)  y = Flatten (p)"
    constants = {"w": weights(8, 3, 3, 3), "half": np.float32(0.5), "yes": np.array(True)}
    assert verify(network(body, {"x": ("N", 3, 8, 8)}, constants)).agrees


def test_one_sample_is_enough_to_find_what_samples_change() -> None:
    body = "c = Conv (x, w)  s = Sub (c, c)  p = GlobalAveragePool (s)  y = Flatten (p)"
    result = verify(network(body, {"x": ("N", 3, 8, 8)}, {"w": weights(8, 3, 3, 3)}), batch_size=1)
    assert result.inner or result.verdict is Verdict.CANNOT_TELL


def test_chaos_proves_nothing() -> None:
    """A map that doubles the distance of neighbours 60 times makes rounding visible: no fault of the conversion."""
    steps = [f"o{i} = Sub (one, a{i - 1})  p{i} = Mul (a{i - 1}, o{i})  a{i} = Mul (p{i}, four)" for i in range(1, 61)]
    body = " ".join(["a0 = Sigmoid (x)", *steps, "f = Flatten (a60)  y = MatMul (f, w)"])
    constants = {"one": np.float32(1), "four": np.float32(4), "w": weights(192, 5)}
    assert verify(network(body, {"x": ("N", 3, 8, 8)}, constants), feed_zeros=True).verdict is not Verdict.AGREES
    assert verify(network(body, {"x": ("N", 3, 8, 8)}, constants)).verdict is not Verdict.DIFFERS


def test_the_reference_does_not_fuse_a_pad_into_a_pool() -> None:
    """ONNX Runtime's optimiser does, which is wrong where all values of a window are negative."""
    body = """
        c = Conv <pads = [1, 1, 1, 1]> (x, w, b)
        p = Pad (c, pads)
        m = MaxPool <kernel_shape = [3, 3], strides = [2, 2]> (p)
        f = Flatten (m)
        y = MatMul (f, v)
    """
    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    constants = {"w": weights(4, 3, 3, 3), "b": np.full(4, -5, np.float32), "pads": pads, "v": weights(64, 5)}
    assert verify(network(body, {"x": ("N", 3, 8, 8)}, constants)).agrees


def test_every_output_is_compared_and_those_without_samples_need_not_vary() -> None:
    body = "c = Conv (x, w)  y = Flatten (c)  z = Identity (anchors)"
    constants = {"w": weights(4, 3, 3, 3), "anchors": weights(4, 4)}
    model = network(body, {"x": ("N", 3, 8, 8)}, constants, outputs=("y", "z"))
    result = verify(model)
    assert [one.output for one in result.outputs] == ["y", "z"]
    assert [one.must_vary for one in result.outputs] == [True, False]
    assert result.agrees


def test_the_worst_output_is_named() -> None:
    good = Comparison(output="good", difference=1e-6, variation=0.2, tolerance=1e-3)
    dull = Comparison(output="dull", difference=0.0, variation=0.0, tolerance=1e-3, is_evidence=False)
    bad = Comparison(output="bad", difference=0.5, variation=0.2, tolerance=1e-3)
    broken = Comparison(output="broken", difference=float("nan"), variation=0.2, tolerance=1e-3)

    def among(*outputs: Comparison) -> tuple[Verdict, str]:
        result = Verification(outputs=outputs, batch_size=2, seed=0, precision="float32")
        return result.verdict, result.output

    assert among(good) == (Verdict.AGREES, "good")
    assert among(good, dull) == (Verdict.CANNOT_TELL, "dull")
    assert among(good, dull, bad) == (Verdict.DIFFERS, "bad")
    assert among(bad, broken, good) == (Verdict.DIFFERS, "broken")
