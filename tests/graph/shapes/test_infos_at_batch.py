"""What is known at one batch size is what a walk finds at another, or another walk it is."""

from __future__ import annotations

import contextlib

import numpy as np
import numpy.typing as npt
import pytest

from aznas_onnx import spaces
from aznas_onnx.errors import ModelError
from aznas_onnx.graph import Graph, Limits, prepare
from aznas_onnx.graph.files.deserialize import deserialize
from aznas_onnx.graph.ir.tensor_info import TensorInfos
from aznas_onnx.graph.meaning.batch_axis import grown_axes
from aznas_onnx.graph.meaning.sample_mixing import find_mixing
from aznas_onnx.graph.shapes.infos_at_batch import rebatched
from aznas_onnx.graph.shapes.interpret import interpret
from tests.graph.builders import network, weights

CONSTANTS: dict[str, npt.NDArray[np.generic]] = {
    "k": weights(4, 3, 3, 3),
    "v": weights(3),
    "m": weights(8, 8),
    "g": weights(192, 5),
    "one": weights(1, 3, 8, 8),
    "two": weights(2, 3, 8, 8),
    "keep": np.array([0, -1, 8]),
    "open": np.array([-1, 24, 8]),
    "baked": np.array([2, 24, 8]),
    "joined": np.array([-1, 8]),
    "scalar": np.float32(0.5),
}
FOLLOWS = (
    "y = Relu (x)",
    "y = Clip (x, scalar)",
    "y = Mul (x, scalar)",
    "y = Add (one, x)",
    "y = Sub (x, x)",
    "y = Conv <pads = [1, 1, 1, 1]> (x, k)",
    "y = BatchNormalization (x, v, v, v, v)",
    "y = MaxPool <kernel_shape = [2, 2]> (x)",
    "y = GlobalAveragePool (x)",
    "y = Flatten (x)",
    "f = Flatten (x)  y = Gemm (f, g)",
    "f = Flatten (x)  y = Gemm (f, g, scalar)",
    "y = MatMul (x, m)",
    "y = MatMul (x, x)",
    "y = Softmax <axis = -1> (x)",
    "y = Transpose <perm = [0, 2, 3, 1]> (x)",
    "y = Reshape (x, keep)",
    "y = Reshape (x, open)",
    "y = Concat <axis = 1> (x, x)",
)
IS_WALKED = (
    "y = Add (x, two)",
    "f = Flatten (x)  y = Gemm <transA = 1> (f, f)",
    "y = MatMul (m, x)",
    "y = Softmax <axis = 0> (x)",
    "y = Transpose <perm = [1, 0, 2, 3]> (x)",
    "y = Transpose (x)",
    "y = Reshape (x, baked)",
    "y = Reshape (x, joined)",
    "y = Concat <axis = 0> (x, x)",
    "y = Concat <axis = 1> (x, two)",
    "y = ReduceSum (x)",
    "s = Shape (x)  y = Reshape (x, s)",
    "y, i = MaxPool <kernel_shape = [2, 2]> (x)",
    "y = Neg (x)  z = Relu (v)",
    "y = Flatten <axis = 2> (x)",
)


def walked(body: str, batch: int, shape: tuple[int, ...] = (3, 8, 8)) -> tuple[Graph, TensorInfos]:
    model = network(body, {"x": ("N", *shape)}, CONSTANTS)
    return interpret(deserialize(model, None, "t", Limits()), batch, {"x": (batch, *shape)}, Limits())


def known(infos: TensorInfos) -> dict[str, tuple[object, ...]]:
    return {
        name: (info.shape, info.dtype, None if info.value is None else info.value.tobytes())
        for name, info in infos.items()
    }


@pytest.mark.parametrize("body", FOLLOWS)
@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_infos_follow_the_batch(body: str, batch: int) -> None:
    graph, infos = walked(body, batch)
    for other in (1, 2, 13):
        shapes = {"x": (other, 3, 8, 8)}
        assert rebatched(graph, infos, other, shapes) is not None
        assert known(interpret(graph, other, shapes, Limits(), infos)[1]) == known(
            interpret(graph, other, shapes, Limits())[1]
        )


@pytest.mark.parametrize("body", FOLLOWS)
def test_where_infos_follow_the_batch_no_sample_is_mixed_with_others(body: str) -> None:
    graph, infos = walked(body, 2)
    shapes = {"x": (13, 3, 8, 8)}
    followed = interpret(graph, 13, shapes, Limits(), infos)[1]
    by_walk = interpret(graph, 13, shapes, Limits())[1]
    assert (followed.separates_samples, by_walk.separates_samples) == (True, False)
    assert find_mixing(graph, infos, followed, (2, 13)) is None
    assert grown_axes(infos, followed) == grown_axes(infos, by_walk)


@pytest.mark.parametrize("body", IS_WALKED)
def test_what_may_mix_samples_is_walked(body: str) -> None:
    graph, infos = walked(body, 2)
    shapes = {"x": (13, 3, 8, 8)}
    assert rebatched(graph, infos, 13, shapes) is None
    with contextlib.suppress(ModelError):  # the batch is baked in
        assert not interpret(graph, 13, shapes, Limits(), infos)[1].separates_samples


def test_a_tensor_above_the_limit_is_refused_as_by_a_walk() -> None:
    graph, infos = walked("a = Relu (x)  y = Conv (a, k)", 2)
    messages = []
    for reference in (None, infos):
        with pytest.raises(ModelError, match="above the limit of 959 elements") as raised:
            interpret(graph, 5, {"x": (5, 3, 8, 8)}, Limits(tensor_elements=959), reference)
        messages.append(str(raised.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("name", ["nb201", "mbv2"])
def test_the_networks_of_convolutional_spaces_are_walked_once(name: str) -> None:
    space = spaces.get(name)
    model = prepare(space.build(space.sample(np.random.default_rng(0))))
    shapes = model.inputs.shapes(64)
    assert rebatched(model.graph, model.infos, 64, shapes) is not None
    assert known(interpret(model.graph, 64, shapes, Limits(), model.infos)[1]) == known(
        interpret(model.graph, 64, shapes, Limits())[1]
    )
