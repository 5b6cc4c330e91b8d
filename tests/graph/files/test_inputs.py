from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from aznas_onnx.errors import ModelError, SettingsError
from aznas_onnx.graph import InputPlan, prepare
from tests.graph.builders import network


def plan(model: onnx.ModelProto, **given: tuple[int, ...]) -> InputPlan:
    return prepare(model, input_shapes=given).inputs


def test_a_fixed_and_an_open_batch() -> None:
    fixed = plan(network("y = Relu (x)", {"x": (4, 3, 8, 8)}))
    assert (fixed.declared_batch, fixed.batch_is_free) == (4, False)
    assert fixed.shapes(9) == {"x": (9, 3, 8, 8)}
    for first in ("N", None):
        free = plan(network("y = Relu (x)", {"x": (first, 3, 8, 8)}))
        assert (free.declared_batch, free.batch_is_free) == (2, True)


def test_the_largest_float_input_of_most_axes_carries_the_samples() -> None:
    model = network("a = Add (x, p)  y = Mul (a, q)", {"p": (1, 3, 1, 1), "x": (1, 3, 8, 8), "q": (8, 8)})
    found = plan(model)
    assert found.primary == "x"
    assert found.batched == {"x", "p"}  # both have one sample; q has eight rows
    assert found.shapes(5) == {"p": (5, 3, 1, 1), "x": (5, 3, 8, 8), "q": (8, 8)}
    assert any("'q'" in warning for warning in found.warnings)


def test_an_input_of_fixed_shape_beside_an_open_batch_is_a_leaked_constant() -> None:
    found = plan(network("y = Mul (x, scale)", {"x": ("N", 3, 8, 8), "scale": (1, 3, 1, 1)}))
    assert found.batched == {"x"}
    assert found.shapes(5)["scale"] == (1, 3, 1, 1)


def test_a_shape_from_the_user() -> None:
    model = network("y = Relu (x)", {"x": ("N", 3, "H", "W")})
    with pytest.raises(ModelError, match="'x' is unknown on axis 2; give it with --input x=1x3x224x224"):
        plan(model)
    assert plan(model, x=(1, 3, 32, 16)).shapes(4) == {"x": (4, 3, 32, 16)}
    assert prepare(model, input_shapes={"": (1, 3, 32, 16)}).inputs.shapes(4) == {"x": (4, 3, 32, 16)}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"z": (1, 3, 8, 8)}, "names 'z', but the inputs are 'x'"),
        ({"x": (1, 3, 8)}, "gives 'x' 3 axes, but the model has 4"),
        ({"x": (1, 4, 8, 8)}, "axis 1 of 'x' size 4, but the model fixes it to 3"),
    ],
)
def test_a_shape_that_contradicts_the_file(given: dict[str, tuple[int, ...]], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        plan(network("y = Relu (x)"), **given)


@pytest.mark.parametrize("shape", [(1, 0, 8, 8), (1, -3, 8, 8), (1, None, 8, 8)])
def test_a_size_that_is_none_is_unknown(shape: tuple[int | None, ...]) -> None:
    with pytest.raises(ModelError, match="unknown on axis 1"):
        plan(network("y = Relu (x)", {"x": shape}))


@pytest.mark.parametrize("shape", [(), (5,)])
def test_too_few_axes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="two or more are needed"):
        plan(network("y = Relu (x)", {"x": shape}))


def test_no_float_input() -> None:
    with pytest.raises(ModelError, match=r"no float input .* \(inputs: 'x' \(int64\)\)"):
        plan(network("y = Cast <to = 1> (x)", input_type=TensorProto.INT64))
    with pytest.raises(ModelError, match=r"no float input .* \(inputs: none\)"):
        plan(network("y = RandomNormal <shape = [1, 3]> ()", {}))


def test_names_of_other_networks_are_passed_over() -> None:
    model = network("y = Relu (x)", {"x": ("N", 3, "H", "W")})
    found = plan(model, x=(1, 3, 32, 16), ids=(1, 128))
    assert found.shapes(1) == {"x": (1, 3, 32, 16)}
    assert found.warnings == ("--input names 'ids', which this network does not have",)


def test_symbols_have_one_size() -> None:
    model = network("y = Mul (x, z)", {"x": ("N", "C", "T"), "z": ("N", 1, "T")})
    assert plan(model, x=(1, 3, 16)).shapes(4) == {"x": (4, 3, 16), "z": (4, 1, 16)}


def test_an_input_of_text() -> None:
    model = network("y = Relu (x)")
    model.graph.input.append(helper.make_tensor_value_info("s", TensorProto.STRING, [1]))
    with pytest.raises(ModelError, match="input 's' holds neither numbers nor booleans"):
        plan(model)


def test_an_integer_input_is_recognised_and_reported() -> None:
    model = network("a = Cast <to = 1> (i)  y = Add (x, a)")
    model.graph.input.append(helper.make_tensor_value_info("i", TensorProto.INT64, [1, 3, 8, 8]))
    assert plan(model).warnings == ("input 'i' (int64) carries no samples and is filled with ones",)


@pytest.mark.parametrize(
    "body",
    ["a = Relu (x)  y = Constant <value_floats = [1.0]> ()", "s = Shape (x)  i = Gather (s, s)  y = Cast <to = 1> (i)"],
)
def test_an_output_that_no_sample_reaches(body: str) -> None:
    with pytest.raises(ModelError):
        plan(network(body, {"x": (1, 3)}))
