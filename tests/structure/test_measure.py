"""Structure against numbers worked out by hand, on small graphs and on cells of the bundled spaces."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import pytest

import aznas_onnx as az
from aznas_onnx.costs import Costs, count
from aznas_onnx.graph import prepare
from aznas_onnx.structure import Structure, measure_structure
from aznas_onnx.structure.spectral_capacity import capacity_of_matrix
from tests.graph.builders import network, weights

IMAGE = {"x": ("n", 3, 16, 16)}


def structure(model: onnx.ModelProto) -> Structure:
    prepared = prepare(model, keep_graph=True)
    return measure_structure(prepared, count(prepared))


def count_of(model: onnx.ModelProto) -> Costs:
    return count(prepare(model, keep_graph=True))


def of(body: str, outputs: Any = ("y",), **constants: Any) -> Structure:
    return structure(network(body, IMAGE, constants, outputs=outputs))


def kernels(**widths: int) -> dict[str, np.ndarray]:
    """Return weights from 3 to 3 channels with kernels of those sizes."""
    return {name: weights(3, 3, size, size, seed=place) for place, (name, size) in enumerate(widths.items())}


CONV3 = "Conv <pads = [1, 1, 1, 1]>"


def test_a_chain() -> None:
    found = of(f"a = {CONV3} (x, u) b = Relu (a) y = Conv (b, v)", **kernels(u=3, v=1))
    assert (found.layers, found.depth, found.shortest_path, found.spatial_depth) == (2, 2, 2, 1)
    assert (found.log_paths, found.mean_path, found.receptive_field) == (0.0, 2.0, 3.0)
    assert found.mean_log_width == pytest.approx(math.log(3))
    assert found.activation_elements == 3 * (3 * 16 * 16)


def test_a_residual_is_two_paths() -> None:
    found = of(f"a = {CONV3} (x, u) b = Relu (a) c = {CONV3} (b, v) y = Add (c, x)", **kernels(u=3, v=3))
    assert (found.depth, found.shortest_path) == (2, 0)
    assert found.log_paths == pytest.approx(math.log(2))
    assert found.mean_path == 1.0
    assert found.receptive_field == 5.0


def test_paths_multiply_along_a_chain_of_residuals() -> None:
    body = f"a = {CONV3} (x, u) b = Add (a, x) c = {CONV3} (b, v) y = Add (c, b)"
    found = of(body, **kernels(u=3, v=3))
    assert found.log_paths == pytest.approx(math.log(4))
    assert found.mean_path == 1.0  # 0, 1, 1 and 2 layers


@pytest.mark.parametrize("edge", ["Mul (a, zero)", "Mul (zero, a)"])
def test_a_product_with_zero_carries_nothing_and_neither_does_what_is_behind_it_alone(edge) -> None:
    body = f"a = {CONV3} (x, u) b = {edge} c = {CONV3} (b, v) d = Conv (x, w) y = Add (c, d)"
    found = of(body, zero=np.float32(0), **kernels(u=3, v=3, w=1))
    assert (found.layers, found.depth, found.log_paths) == (1, 1, 0.0)


def test_a_product_with_a_number_carries_on() -> None:
    found = of(f"a = {CONV3} (x, u) y = Mul (a, half)", half=np.float32(0.5), **kernels(u=3))
    assert (found.layers, found.depth) == (1, 1)


def test_a_network_that_is_constant_has_no_path() -> None:
    found = of(f"a = Mul (x, zero) y = {CONV3} (a, u)", zero=np.float32(0), **kernels(u=3))
    assert found.log_paths == -math.inf
    assert (found.layers, found.depth, found.mean_path) == (0, 0, 0.0)


def test_what_no_output_depends_on_does_not_count() -> None:
    found = of(f"y = {CONV3} (x, u) unused = {CONV3} (x, v)", **kernels(u=3, v=3))
    assert found.layers == 1


def test_every_output_counts() -> None:
    found = of(f"y = {CONV3} (x, u) z = {CONV3} (y, v)", outputs=("y", "z"), **kernels(u=3, v=3))
    assert (found.depth, found.shortest_path) == (2, 1)
    assert found.log_paths == pytest.approx(math.log(2))


def test_an_operator_that_reads_a_tensor_twice_is_one_path() -> None:
    assert of(f"a = {CONV3} (x, u) y = Mul (a, a)", **kernels(u=3)).log_paths == 0.0


def test_pieces_that_are_put_together_again_are_one_path() -> None:
    """As in a shift of channels, and in patches that are merged."""
    body = f"a = {CONV3} (x, u) b, c, d = Split <axis = 1> (a, sizes) y = Concat <axis = 1> (d, b, c)"
    assert of(body, sizes=np.array([1, 1, 1]), **kernels(u=3)).log_paths == 0.0


def test_a_piece_that_goes_another_way_is_another_path() -> None:
    body = "b, c = Split <axis = 1> (x, sizes) d = Conv (b, u) y = Concat <axis = 1> (c, d)"
    found = of(body, sizes=np.array([1, 2]), u=weights(4, 1, 1, 1))
    assert found.log_paths == pytest.approx(math.log(2))
    assert (found.depth, found.shortest_path) == (1, 0)


def test_a_fused_projection_has_the_paths_of_separate_ones() -> None:
    attend = "s = MatMul (q, k_t) p = Softmax <axis = -1> (s) y = MatMul (p, v)"
    separate = f"q = MatMul (x, u) k = MatMul (x, w) k_t = Transpose <perm = [0, 2, 1]> (k) v = MatMul (x, z) {attend}"
    together = (
        f"all = MatMul (x, u) q, k, v = Split <axis = 2> (all, s3) k_t = Transpose <perm = [0, 2, 1]> (k) {attend}"
    )
    tokens = {"x": ("n", 4, 6)}
    matrices = {name: weights(6, 6, seed=place) for place, name in enumerate("uwz")}
    one = structure(network(separate, tokens, matrices))
    other = structure(network(together, tokens, {"u": weights(6, 18), "s3": np.array([6, 6, 6])}))
    assert one.log_paths == other.log_paths == pytest.approx(math.log(3))


def test_the_sizes_of_a_tensor_are_no_path() -> None:
    body = f"a = {CONV3} (x, u) s = Shape (a) f = Cast <to = 1> (s) n = ReduceProd <keepdims = 0> (f) y = Div (a, n)"
    assert of(body, **kernels(u=3)).log_paths == 0.0


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Conv <pads = [2, 2, 2, 2], dilations = [2, 2]> (x, u)", 5),
        ("a = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, u) y = Conv <pads = [1, 1, 1, 1]> (a, v)", 7),
        ("a = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x) y = Conv <pads = [1, 1, 1, 1]> (a, v)", 6),
        ("a = Conv <pads = [1, 1, 1, 1]> (x, u) y = GlobalAveragePool (a)", 3),
        ("a = Conv <pads = [1, 1, 1, 1]> (x, u) y = AveragePool <kernel_shape = [16, 16]> (a)", 3),
    ],
)
def test_receptive_field(body, expected) -> None:
    assert of(body, **kernels(u=3, v=3)).receptive_field == expected


def test_a_cell_of_nas_bench_201() -> None:
    """15 cells, two reductions (of two layers or one), stem and classifier; the `none` closes one of four paths."""
    cell = "|nor_conv_1x1~0|+|skip_connect~0|none~1|+|nor_conv_3x3~0|nor_conv_3x3~1|avg_pool_3x3~2|"
    space = az.spaces.get("nb201")
    found = structure(space.build(space.parse(cell)))
    assert found.layers == 15 * 3 + 2 * 3 + 2
    assert found.depth == 15 * 2 + 2 * 2 + 2
    assert found.shortest_path == 15 * 0 + 2 * 1 + 2
    assert found.spatial_depth == 15 * 1 + 2 * 2 + 1
    assert found.log_paths == pytest.approx(15 * math.log(3) + 2 * math.log(2))
    assert found.mean_path == pytest.approx(15 * (1 + 2 + 0) / 3 + 2 * 1.5 + 2)


def test_cells_that_are_the_same_network_have_the_same_structure() -> None:
    space = az.spaces.get("nb201")
    dead = space.parse("|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|nor_conv_3x3~0|skip_connect~1|none~2|")
    whole, clean = structure(space.build(dead)), structure(space.build(space.parse(space.canonical(dead))))
    assert whole.depth == clean.depth
    assert whole.layers == clean.layers
    assert whole.log_paths == clean.log_paths
    for name in ("live_macs", "live_params", "spatial_layers", "log_widths", "spectral_capacity"):
        assert getattr(whole, name) == getattr(clean, name), name
    plain = count_of(space.build(space.parse(space.canonical(dead))))
    assert (clean.live_macs, clean.live_params) == (plain.macs, plain.params)
    assert whole.live_params < count_of(space.build(dead)).params


def test_what_is_live_counts_what_a_path_crosses() -> None:
    """The convolution of the side that a product with zero closes counts nothing."""
    body = "a = Conv (x, u) b = Conv (x, v) c = Mul (b, zero) y = Add (a, c)"
    model = network(body, IMAGE, {"u": weights(4, 3, 3, 3), "v": weights(4, 3, 3, 3), "zero": np.float32(0)})
    whole, found = count_of(model), structure(model)
    assert 2 * found.live_macs == whole.macs
    assert 2 * found.live_params == whole.params
    assert found.live_activation_elements < found.activation_elements
    assert found.spatial_layers == found.layers == 1
    assert found.log_widths == pytest.approx(math.log(4))
    assert found.mean_log_macs == pytest.approx(math.log(found.live_macs))
    assert found.spectral_capacity == pytest.approx(capacity_of_matrix(4, 27))


def test_the_last_positions_are_those_before_pooling() -> None:
    space = az.spaces.get("nb201")
    cell = "|nor_conv_1x1~0|+|skip_connect~0|none~1|+|nor_conv_3x3~0|nor_conv_3x3~1|avg_pool_3x3~2|"
    assert structure(space.build(space.parse(cell))).final_positions == 8 * 8


def test_a_network_of_the_mobile_space() -> None:
    """Every block's expansion, depthwise and projection, and a shortcut: an identity, or one layer in the first."""
    genotype = "SuperConvK3BNRELU(3,8,2,1)SuperResIDWE6K5(8,16,2,8,1)SuperConvK1BNRELU(16,2048,1,1)"
    space = az.spaces.get("mbv2")
    found = structure(space.build(space.parse(genotype)))
    assert found.depth == 1 + 3 + 3 + 1 + 1  # stem, two blocks of a pair, head, classifier
    assert found.spatial_depth == 1 + 1 + 1
    assert found.log_paths == pytest.approx(2 * math.log(2))
    assert found.shortest_path == 1 + 1 + 1 + 1 + 1  # both shortcuts change the channels or the resolution


def test_a_vision_transformer() -> None:
    """A layer has 8 ways through and around attention, and two through and around the MLP.

    Queries meet keys and a table of positions (q, k, q), and what they select is values and another table (those three
    and v, those three again); the residual is the eighth.
    """
    space = az.spaces.get("autoformer-tiny")
    heads, ratios = ",".join(["3"] * 12), ",".join(["4"] * 12)
    genotype = f'{{"depth":12,"embed_dim":192,"num_heads":[{heads}],"mlp_ratio":[{ratios}]}}'
    found = structure(space.build(space.parse(genotype)))
    assert found.shortest_path == 2  # patches and classifier
    assert found.layers == 2 + 12 * 6
    assert found.depth == 2 + 12 * 4 + 12 * 2
    assert found.log_paths == pytest.approx(12 * math.log(8 * 2))
