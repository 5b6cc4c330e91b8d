from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from aznas_onnx.errors import ModelError
from aznas_onnx.graph import prepare
from tests.graph.builders import network, weights

Shapes = Mapping[str, tuple[int, ...]]


@pytest.mark.parametrize(
    ("body", "shapes", "reason"),
    [
        ("y = Conv (x, w)", {"w": (4, 5, 3, 3)}, "takes 5 channels in 1 groups, but the input has 3"),
        ("y = Conv <group = 7> (x, w)", {"w": (7, 3, 3, 3)}, "takes 21 channels"),
        ("y = Conv <group = 3> (x, w)", {"w": (4, 1, 3, 3)}, "takes 3 channels in 3 groups"),
        ("y = Conv <group = 0> (x, w)", {"w": (4, 3, 3, 3)}, "groups"),
        ("y = Conv <kernel_shape = [5, 5]> (x, w)", {"w": (4, 3, 3, 3)}, r"kernel_shape is \(5, 5\)"),
        ("y = Conv (x, w, b)", {"w": (4, 3, 3, 3), "b": (9,)}, "the bias needs 4 elements"),
        ("y = Conv (x, w)", {"w": (4, 3, 3)}, "same three or more axes|does not fit"),
        ("y = ConvTranspose (x, w)", {"w": (4, 3, 3, 3)}, "takes 4 channels"),
        ("y = ConvTranspose (x, w, b)", {"w": (3, 4, 3, 3), "b": (3,)}, "the bias needs 4 elements"),
        ("y = InstanceNormalization (x, b, b)", {"b": (4,)}, "each vector needs 3 elements"),
        ("f = Flatten (x)  y = Gemm <transB = 1> (f, w, b)", {"w": (5, 192), "b": (4,)}, "the bias does not fit"),
        ("y = PRelu (x, w)", {"w": (5, 1, 1)}, "the slope does not broadcast"),
        ("y, z, u = Split <axis = 2, num_outputs = 1> (x)", {}, "num_outputs is 1, but there are 3 outputs"),
        ("y = Transpose <perm = [1, 0, 2]> (x)", {}, "perm has 3 axes"),
        ("y, z = Split <axis = 3, num_outputs = 7> (x)", {}, "num_outputs is 7, but there are 2 outputs"),
        ("y = SpaceToDepth <blocksize = 3> (x)", {}, "does not divide into blocks of 3"),
        ("y = DepthToSpace <blocksize = 2> (x)", {}, "does not divide into blocks of 2"),
        ("f = Squeeze (x)  y = LSTM <hidden_size = 5> (f, w, r)", {"w": (1, 3, 3), "r": (1, 20, 5)}, "1 x 20 x 8"),
        (
            "f = Squeeze (x)  y = GRU <hidden_size = 6> (f, w, r)",
            {"w": (1, 15, 8), "r": (1, 15, 5)},
            "hidden_size is 6",
        ),
        (
            "f = Squeeze (x)  y = RNN <hidden_size = 5> (f, w, r, b)",
            {"w": (1, 5, 8), "r": (1, 5, 5), "b": (1, 5)},
            "the bias needs 1 x 10",
        ),
    ],
)
def test_operands_that_onnx_itself_lets_pass(body: str, shapes: Shapes, reason: str) -> None:
    model = network(body, constants={name: weights(*shape) for name, shape in shapes.items()})
    with pytest.raises(ModelError, match=reason):
        prepare(model, keep_graph=True)


@pytest.mark.parametrize(
    "body",
    [
        "y = MaxPool <kernel_shape = [1000001, 3], pads = [500000, 1, 500000, 1]> (x)",
        "y = Conv <pads = [1000001, 0, 0, 0]> (x, w)",
        "y = Conv <dilations = [1, 1000001], pads = [0, 1000000, 0, 1000000]> (x, w)",
        "y = AveragePool <kernel_shape = [101, 1], dilations = [10001, 1], pads = [50, 0, 50, 0]> (x)",
    ],
)
def test_windows_beyond_any_image(body: str) -> None:
    """Runtimes walk over the padding: such a file would take hours, for a handful of numbers."""
    with pytest.raises(ModelError, match=r"has a window or padding of .* positions, above the limit of 65,536"):
        prepare(network(body, opset=19, constants={"w": weights(4, 3, 3, 3)}), keep_graph=True)


@pytest.mark.parametrize(("index", "element"), [(8, "8"), (-9, "-9"), (2**40, "1099511627776")])
def test_an_index_outside_of_its_axis(index: int, element: str) -> None:
    model = network("y = Gather <axis = 3> (x, i)", constants={"i": np.array([0, index])})
    with pytest.raises(ModelError, match=f"takes element {element} of an axis of 8"):
        prepare(model, keep_graph=True)


@pytest.mark.parametrize(
    "body", ["y = Concat <axis = 4294967296> (x, x)", "y = Softmax <axis = 4611686018427387905> (x)"]
)
def test_numbers_that_onnx_itself_cuts_off(body: str) -> None:
    """The lower 32 bits of these are a valid axis."""
    with pytest.raises(ModelError, match=r"attribute axis of .* is absurd"):
        prepare(network(body))


def test_the_largest_number_may_end_a_slice() -> None:
    model = prepare(network("y = Slice <axes = [2], starts = [1], ends = [9223372036854775807]> (x)", opset=9))
    assert model.infos.shape("y") == (1, 3, 7, 8)


@pytest.mark.parametrize(
    ("body", "shapes"),
    [
        ("y = Conv <group = 3, kernel_shape = [3, 3]> (x, w, b)", {"w": (6, 1, 3, 3), "b": (6,)}),
        ("y = ConvTranspose <group = 3> (x, w, b)", {"w": (3, 2, 3, 3), "b": (6,)}),
        ("f = Flatten (x)  y = Gemm <transB = 1> (f, w, b)", {"w": (5, 192), "b": (1, 5)}),
        ("y = PRelu (x, w)", {"w": (3, 1, 1)}),
        ("y = PRelu (x, w)", {"w": (1,)}),
        ("y = SpaceToDepth <blocksize = 4> (x)", {}),
        (
            'f = Squeeze (x)  y = LSTM <hidden_size = 5, direction = "bidirectional"> (f, w, r, b)',
            {"w": (2, 20, 8), "r": (2, 20, 5), "b": (2, 40)},
        ),
    ],
)
def test_operands_that_fit(body: str, shapes: Shapes) -> None:
    constants = {name: weights(*shape) for name, shape in shapes.items()}
    model = prepare(network(body, constants=constants), keep_graph=True)
    assert set(model.graph.constants) == set(constants)
    assert model.infos.shape("y") is not None


def test_many_indices_are_looked_at_each_time() -> None:
    """Whatever was read before: infos are cached by shapes, and of so many indices not by their values."""
    for highest in (7, 8, 7, 8):
        model = network("y = Gather <axis = 3> (x, i)", constants={"i": np.array([0] * 99 + [highest])})
        if highest == 7:
            assert prepare(model).infos.shape("y") == (1, 3, 8, 100)
        else:
            with pytest.raises(ModelError, match="takes element 8 of an axis of 8"):
                prepare(model)
