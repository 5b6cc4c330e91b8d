from __future__ import annotations

import numpy as np
import pytest

from aznas_onnx.graph.rewrite.canonical.padding import _merge_pad
from tests.graph.builders import network, weights
from tests.graph.rewrite.running import canonical, computes_the_same, operators, outcome

SHAPE = {"x": ("N", 3, 8, 8)}
CONSTANTS = {
    "w": weights(4, 3, 3, 3), "pads": np.array([0, 0, 0, 1, 0, 0, 1, 2]), "zero": np.float32(0.0),
    "one": np.float32(1.0), "channels": np.array([0, 1, 0, 0, 0, 1, 0, 0]), "wide": weights(4, 5, 3, 3),
    "crop": np.array([0, 0, -1, 0, 0, 0, 0, 0]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("window", "operator"),
    [
        ("Conv (p, w)", "Conv"),
        ("Conv <pads = [1, 1, 1, 1]> (p, w)", "Conv"),
        ('Conv <auto_pad = "VALID", strides = [2, 2]> (p, w)', "Conv"),
        ("AveragePool <kernel_shape = [3, 3]> (p)", "AveragePool"),
        ("AveragePool <kernel_shape = [5, 5], pads = [1, 1, 1, 1], count_include_pad = 1> (p)", "AveragePool"),
    ],
)
def test_a_pad_is_merged_into_the_window(window: str, operator: str) -> None:
    model = network(f"p = Pad (x, pads)  y = {window}", SHAPE, CONSTANTS)
    result = canonical(model)
    assert operators(result.graph) == [operator]
    assert computes_the_same(result.graph, model)


def test_a_maximum_of_nonnegative_numbers() -> None:
    model = network(
        "r = Relu (x)  p = Pad (r, pads, zero)  y = MaxPool <kernel_shape = [3, 3], strides = [2, 2]> (p)",
        SHAPE,
        CONSTANTS,
    )
    result = canonical(model)
    assert operators(result.graph) == ["Relu", "MaxPool"]
    assert computes_the_same(result.graph, model)


def test_a_pad_that_two_windows_read_is_merged_into_both() -> None:
    model = network("p = Pad (x, pads)  a = Conv (p, w)  b = Conv (p, w)  y = Add (a, b)", SHAPE, CONSTANTS)
    result = canonical(model)
    assert operators(result.graph) == ["Conv", "Add"]
    assert computes_the_same(result.graph, model)


@pytest.mark.parametrize(
    ("body", "operator", "reason"),
    [
        ("y = Conv (x, w)", "Conv", "no padding with zeros comes before it"),
        ("p = Pad (x, pads, one)  y = Conv (p, w)", "Conv", "no padding with zeros comes before it"),
        ('p = Pad <mode = "reflect"> (x, pads)  y = Conv (p, w)', "Conv", "no padding with zeros comes before it"),
        ("p = Pad (x, crop)  y = Conv (p, w)", "Conv", "no padding with zeros comes before it"),
        ("p = Pad (x, channels)  y = Conv (p, wide)", "Conv", "the Pad before it pads samples or channels too"),
        (
            'p = Pad (x, pads)  y = Conv <auto_pad = "SAME_UPPER"> (p, w)', "Conv",
            "it has padding of its own by auto_pad",
        ),
        (
            "p = Pad (x, pads)  y = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (p)", "AveragePool",
            "its average counts the zeros of the Pad before it, and not its own padding",
        ),
        (
            "p = Pad (x, pads)  y = AveragePool <kernel_shape = [2, 2]> (p)", "AveragePool",
            "a window may lie in the padding alone",
        ),
        (
            "p = Pad (x, pads)  y = MaxPool <kernel_shape = [3, 3]> (p)", "MaxPool",
            "a zero of the Pad before it may be the maximum",
        ),
    ],
)  # fmt: skip
def test_reasons_to_decline(body: str, operator: str, reason: str) -> None:
    assert outcome(network(body, SHAPE, CONSTANTS), _merge_pad, operator) == reason
