from __future__ import annotations

import pytest
import torch

from aznas_onnx.convert import compile_program
from aznas_onnx.convert.sliding_window import Window
from aznas_onnx.graph import prepare, specialise
from tests.graph.builders import network


def window(kernel: int, stride: int, begin: int, end: int, *, dilation: int = 1, ceil: bool = False) -> Window:
    return Window((kernel,), (stride,), (dilation,), (begin,), (end,), ceil)


@pytest.mark.parametrize(
    ("it", "size", "count"),
    [
        (window(3, 2, 1, 1), 224, 112),
        (window(3, 2, 0, 0), 112, 55),
        (window(3, 2, 0, 0, ceil=True), 112, 56),
        (window(3, 1, 2, 2, dilation=2), 7, 7),
        (window(2, 2, 0, 0, ceil=True), 7, 4),
        (window(1, 3, 0, 0, ceil=True), 11, 4),  # a fifth window would start at 12, behind the end
        (window(2, 3, 1, 1, ceil=True), 6, 3),  # it would start at 6 + 1, in the padding after the end: dropped
    ],
)
def test_number_of_windows(it: Window, size: int, count: int) -> None:
    assert it.output_sizes((size,)) == (count,)


def test_covering_pads_hold_exactly_the_windows() -> None:
    it = window(3, 2, 1, 0, ceil=True)
    before, after = it.covering_pads((7,))
    assert (before, after) == (1, 1)
    assert window(3, 2, before, after).output_sizes((7,)) == it.output_sizes((7,)) == (4,)


def test_torch_pads_run_from_the_last_axis_to_the_first() -> None:
    it = Window((1, 1), (1, 1), (1, 1), (1, 2), (3, 4))
    assert it.torch_pads == [2, 4, 1, 3]
    assert not it.is_symmetric


def test_an_average_over_nothing_but_padding_is_zero() -> None:
    body = "y = AveragePool <kernel_shape = [1, 1], strides = [1, 1], pads = [0, 1, 0, 2]> (x)"
    model = prepare(network(body, {"x": ("n", 1, 1, 2)}))
    sized = specialise(model, 1)
    program = compile_program(sized.graph, sized.infos, {}, device="cpu")
    assert program.run({"x": torch.ones(1, 1, 1, 2)})["y"].flatten().tolist() == [0.0, 1.0, 1.0, 0.0, 0.0]
