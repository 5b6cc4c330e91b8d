from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from aznas_onnx.blocks.types import Block
from aznas_onnx.proxies import BlockEvidence
from aznas_onnx.proxies.engine.block_statistics import BlockStatistics
from aznas_onnx.proxies.engine.blockpass import BlockPass, signs_of
from tests.proxies.networks import block, blocks, features_of, program_of

Tensor = torch.Tensor


def conv(weight: Tensor, stride: int = 1):
    return lambda x: F.batch_norm(F.conv2d(x, weight, None, stride, weight.shape[-1] // 2), None, None, training=True)


def residual_network(seed: int = 0):
    """Stem, a residual block, one that halves the resolution, and a head that no proxy needs."""
    source = torch.Generator().manual_seed(seed)

    def weight(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source) * math.sqrt(2 / math.prod(shape[1:]))

    return program_of(
        [
            ("f0", conv(weight(8, 3, 3, 3)), ("x",)),
            ("a1", F.relu, ("f0",)),
            ("b1", conv(weight(8, 8, 3, 3)), ("a1",)),
            ("f1", torch.add, ("b1", "f0")),
            ("a2", F.relu, ("f1",)),
            ("b2", conv(weight(16, 8, 3, 3), 2), ("a2",)),
            ("s2", conv(weight(16, 8, 1, 1), 2), ("f1",)),
            ("f2", torch.add, ("b2", "s2")),
            ("pooled", lambda f: f.mean((2, 3)), ("f2",)),
        ]
    )


# ---- an independent statement of the published arithmetic ---------------------------------------------------------
def entropy(feature: Tensor, channel_axis: int = 1) -> float:
    rows = feature.detach().movedim(channel_axis, -1).flatten(0, -2).double()
    rows = rows - rows.mean(0)
    values = torch.linalg.eigvalsh(rows.T @ rows / len(rows)).clamp_min(0)
    shares = values / values.sum()
    return float(-(shares * (shares + 1e-8).log()).sum())


def sigma(f_in: Tensor, f_out: Tensor, g_out: Tensor, channel_axis: int = 1) -> float:
    (g_in,) = torch.autograd.grad(f_out, f_in, g_out, retain_graph=True)
    if channel_axis == 1 and f_in.dim() == 4:
        g_in = F.pixel_unshuffle(g_in, f_in.shape[2] // f_out.shape[2])
    rows_in, rows_out = (g.movedim(channel_axis, -1).flatten(0, -2).double() for g in (g_in, g_out))
    return float(torch.linalg.svdvals(rows_in.T @ rows_out / len(rows_out)).max())


def given_signs(shapes, seed: int = 5):
    source = torch.Generator().manual_seed(seed)
    drawn = [torch.randint(0, 2, tuple(shape), generator=source) * 2.0 - 1.0 for shape in shapes]
    return drawn, lambda index, _output: drawn[index]


def assert_as_whole_graph(program, outputs, x, channel_axis: int = 1, rtol: float = 1e-5):
    features = features_of(program, x, outputs)
    drawn, signs = given_signs([feature.shape for feature in features])
    evidence = BlockPass(program, blocks(*outputs, channel_axis=channel_axis)).measure({"x": x.detach()}, None, signs)
    assert [e.entropy for e in evidence] == pytest.approx([entropy(f, channel_axis) for f in features], rel=rtol)
    expected = [
        sigma(f_in, f_out, g, channel_axis) for f_in, f_out, g in zip(features, features[1:], drawn[1:], strict=False)
    ]
    assert [e.sigma for e in evidence[1:]] == pytest.approx(expected, rel=rtol)
    return evidence


# ---- equality with whole-graph autograd ---------------------------------------------------------------------------
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gives_what_whole_graph_autograd_gives(memory_format):
    x = torch.randn(6, 3, 8, 8).contiguous(memory_format=memory_format)
    assert_as_whole_graph(residual_network(), ["f0", "f1", "f2"], x)


def test_fewer_samples_than_channels_give_the_same():
    x = torch.randn(3, 3, 2, 2)  # 12 samples of 8 channels, then 3 of 16
    assert_as_whole_graph(residual_network(), ["f0", "f1", "f2"], x, rtol=1e-4)


def test_a_tensor_that_crosses_blocks_is_kept_and_carries_no_gradient():
    weight = torch.randn(6, 6, 1, 1)
    program = program_of(
        [
            ("f0", lambda x: x * 2, ("x",)),
            ("skip", torch.sin, ("f0",)),  # read by the last block only, before f1 in the program
            ("f1", lambda f: F.conv2d(f, weight).tanh(), ("f0",)),
            ("side", torch.exp, ("f1",)),  # computed on the way to f2, read by f3 too
            ("f2", lambda a, b: a + b, ("f1", "side")),
            ("f3", lambda a, b, c: a * b + c, ("f2", "side", "skip")),
        ]
    )
    assert_as_whole_graph(program, ["f0", "f1", "f2", "f3"], torch.randn(5, 6, 4, 4))


def test_channels_of_tokens_are_on_the_last_axis():
    weight = torch.randn(10, 10) / 3
    program = program_of([("f0", torch.tanh, ("x",)), ("f1", lambda f: f + F.gelu(f @ weight), ("f0",))])
    assert_as_whole_graph(program, ["f0", "f1"], torch.randn(4, 7, 10), channel_axis=2)


def test_features_without_positions():
    weight = torch.randn(5, 5)
    program = program_of([("f0", torch.tanh, ("x",)), ("f1", lambda f: torch.relu(f @ weight), ("f0",))])
    assert_as_whole_graph(program, ["f0", "f1"], torch.randn(40, 5))


def test_wide_features_use_the_products_by_halves():
    weight = torch.randn(600, 600, 1, 1) / 25
    program = program_of([("f0", torch.tanh, ("x",)), ("f1", lambda f: f + F.conv2d(f, weight), ("f0",))])
    assert_as_whole_graph(program, ["f0", "f1"], torch.randn(4, 600, 13, 13))


def test_random_signs_are_plus_and_minus_one_in_the_outputs_memory_order():
    output = torch.empty(3, 5, 7, 7).contiguous(memory_format=torch.channels_last)
    signs = signs_of(seed=1)(2, output)
    assert signs.shape == output.shape
    assert signs.is_contiguous(memory_format=torch.channels_last)
    assert signs.abs().eq(1).all()
    assert not torch.equal(signs, signs_of(seed=1)(3, output))
    assert torch.equal(signs, signs_of(seed=1)(2, output))


# ---- what is run, and what is kept --------------------------------------------------------------------------------
def test_steps_behind_the_last_block_are_not_run():
    def fail(_):
        raise AssertionError("must not run")

    program = program_of([("f0", torch.tanh, ("x",)), ("f1", torch.sin, ("f0",)), ("head", fail, ("f1",))])
    BlockPass(program, blocks("f0", "f1")).measure({"x": torch.randn(4, 3, 4, 4)}, None, signs_of(0))


def test_the_stem_is_run_without_recording():
    recorded = []

    def stem(x):
        recorded.append(torch.is_grad_enabled())
        return x.tanh()

    program = program_of([("f0", stem, ("x",)), ("f1", torch.sin, ("f0",))])
    BlockPass(program, blocks("f0", "f1")).measure({"x": torch.randn(4, 3, 4, 4)}, None, signs_of(0))
    assert recorded == [False]


def test_activations_are_freed_block_by_block():
    alive = []
    kept: list[weakref.ref[Tensor]] = []

    def layer(f):
        gc.collect()
        alive.append(sum(reference() is not None for reference in kept))
        result = f.sin()
        kept.append(weakref.ref(result))
        return result

    names = [f"f{index}" for index in range(8)]
    layers = [(name, layer, (source,)) for name, source in zip(names, ["x", *names], strict=False)]
    BlockPass(program_of(layers), blocks(*names)).measure({"x": torch.randn(4, 3, 4, 4)}, None, signs_of(0))
    assert max(alive) <= 1  # the previous block's output, or nothing where only its detached copy lives


def test_without_signs_only_features_are_measured():
    evidence = BlockPass(residual_network(), blocks("f0", "f1")).measure({"x": torch.randn(4, 3, 8, 8)}, None, None)
    assert all(e.sigma is None and not e.unmeasured and e.entropy is not None for e in evidence)


# ---- blocks that have no Jacobian or no entropy -------------------------------------------------------------------
def test_an_identity_block_is_recognised():
    program = program_of([("f0", torch.tanh, ("x",)), ("f1", lambda f: f + 0 * f.sin(), ("f0",))])
    evidence = BlockPass(program, blocks("f0", "f1")).measure({"x": torch.randn(4, 3, 4, 4)}, None, signs_of(0))
    assert evidence[1].is_identity
    assert evidence[1].sigma is not None


def test_a_block_declared_twice_is_an_identity():
    evidence = BlockPass(program_of([("f0", torch.tanh, ("x",))]), blocks("f0", "f0")).measure(
        {"x": torch.randn(4, 3, 4, 4)}, None, signs_of(0)
    )
    assert evidence[1].is_identity
    assert evidence[0].entropy == evidence[1].entropy


def test_nearly_an_identity_is_none():
    def nearly(f):
        scale = torch.ones_like(f)
        scale[-1, -1, -1, -1] = 1.5
        return f * scale

    program = program_of([("f0", torch.tanh, ("x",)), ("f1", nearly, ("f0",))])
    evidence = BlockPass(program, blocks("f0", "f1")).measure({"x": torch.randn(4, 3, 4, 4)}, None, signs_of(0))
    assert not evidence[1].is_identity


@pytest.mark.parametrize("factor", [0.0, 0.5])
def test_a_block_that_adds_another_path_is_left_out_and_one_that_adds_nothing_is_the_identity(factor: float):
    program = program_of(
        [
            ("p", torch.sin, ("x",)),  # pixels
            ("t", torch.tanh, ("p",)),  # tokens
            ("q", torch.relu, ("p",)),
            ("y", lambda t, q: t + factor * q, ("t", "q")),
        ]
    )
    found = BlockPass(program, blocks("t", "y")).measure({"x": torch.randn(4, 3, 4, 4)}, None, signs_of(0))
    assert found[1].is_identity == (factor == 0.0)
    assert (found[1].sigma is None) == (factor > 0.0)
    reason = "block 'block 1' adds to the output of block 'block 0' what does not depend on it" if factor else ""
    assert found[1].unmeasured == reason


def test_a_parallel_block_is_left_out_with_a_reason():
    program = program_of([("f0", torch.tanh, ("x",)), ("f1", torch.sin, ("x",))])
    evidence = BlockPass(program, blocks("f0", "f1")).measure({"x": torch.randn(4, 3, 4, 4)}, None, signs_of(0))
    assert evidence[1].sigma is None
    assert "does not depend" in evidence[1].unmeasured


def test_a_block_without_derivative_is_left_out_with_a_reason():
    program = program_of([("f0", torch.tanh, ("x",)), ("f1", lambda f: f.detach().sign(), ("f0",))])
    evidence = BlockPass(program, blocks("f0", "f1")).measure({"x": torch.randn(4, 3, 4, 4)}, None, signs_of(0))
    assert "no derivative" in evidence[1].unmeasured


def test_a_block_that_ignores_its_input_has_a_zero_jacobian():
    program = program_of([("f0", torch.tanh, ("x",)), ("f1", lambda f: f * 0, ("f0",))])
    evidence = BlockPass(program, blocks("f0", "f1")).measure({"x": torch.randn(4, 3, 4, 4)}, None, signs_of(0))
    assert evidence[1].sigma == 0.0
    assert evidence[1].variance == 0.0
    assert math.isnan(evidence[1].entropy)


def test_a_constant_output_has_a_zero_jacobian():
    constants = {"c": torch.ones(4, 3, 4, 4)}
    program = program_of([("f0", torch.tanh, ("x",)), ("f1", torch.neg, ("c",))], constants)
    evidence = BlockPass(program, blocks("f0", "f1")).measure({"x": torch.randn(4, 3, 4, 4)}, None, signs_of(0))
    assert evidence[1].sigma == 0.0
    assert not evidence[1].unmeasured


def test_overflow_in_one_block_leaves_the_others_measured():
    program = program_of([("f0", torch.tanh, ("x",)), ("f1", lambda f: f * math.inf, ("f0",))])
    evidence = BlockPass(program, blocks("f0", "f1")).measure({"x": torch.randn(4, 3, 4, 4)}, None, signs_of(0))
    assert math.isfinite(evidence[0].entropy)
    assert math.isnan(evidence[1].entropy)
    assert not math.isfinite(evidence[1].variance)
    assert not math.isfinite(evidence[1].sigma)


def test_tokens_that_cannot_be_matched_are_left_out_with_a_reason():
    program = program_of([("f0", torch.tanh, ("x",)), ("f1", lambda f: f[:, 1:] * 2, ("f0",))])
    evidence = BlockPass(program, blocks("f0", "f1", channel_axis=2)).measure(
        {"x": torch.randn(4, 197, 6)}, None, signs_of(0)
    )
    assert "197" in evidence[1].unmeasured
    assert evidence[1].sigma is None


def test_patches_that_became_samples_are_left_out_with_a_reason():
    layers = [
        ("a", torch.relu, ("x",)),
        ("b", lambda a: 2.0 * a.reshape(8, 16, 16).transpose(1, 2).reshape(32, 4, 16), ("a",)),
    ]
    measured = (block(0, "a"), block(1, "b", channel_axis=2))
    found = BlockPass(program_of(layers), measured).measure({"x": torch.randn(8, 16, 4, 4)}, None, signs_of(0))
    assert found[1].sigma is None
    assert found[1].unmeasured == "the samples of block 'block 1' cannot be matched (8 become 32)"


def test_a_transpose_between_blocks_is_followed():
    weight = torch.randn(6, 6, 1, 1)
    program = program_of(
        [
            ("f0", torch.tanh, ("x",)),
            ("f1", lambda f: F.conv2d(f, weight).flatten(2).transpose(1, 2), ("f0",)),
        ]
    )
    x = torch.randn(50, 6, 4, 4)
    evidence = BlockPass(program, [block(0, "f0"), block(1, "f1", channel_axis=2)]).measure({"x": x}, None, signs_of(0))
    expected = torch.linalg.svdvals(weight[:, :, 0, 0]).max()
    assert evidence[1].sigma == pytest.approx(float(expected), rel=0.1)


def test_upsampling_unshuffles_the_output():
    program = program_of([("f0", torch.tanh, ("x",)), ("f1", lambda f: F.interpolate(f, scale_factor=2), ("f0",))])
    x = torch.randn(400, 4, 4, 4)
    evidence = BlockPass(program, blocks("f0", "f1")).measure({"x": x}, None, signs_of(0))
    assert evidence[1].sigma == pytest.approx(2.0, rel=0.1)  # four copies: the norm of (I I I I)


def test_average_pooling_has_half_the_norm():
    program = program_of([("f0", torch.tanh, ("x",)), ("f1", lambda f: F.avg_pool2d(f, 2), ("f0",))])
    evidence = BlockPass(program, blocks("f0", "f1")).measure({"x": torch.randn(400, 4, 8, 8)}, None, signs_of(0))
    assert evidence[1].sigma == pytest.approx(0.5, rel=0.1)


def test_matrices_that_take_much_memory_are_reduced_on_the_way(monkeypatch):
    program, x = residual_network(), torch.randn(6, 3, 8, 8)
    expected = BlockPass(program, blocks("f0", "f1", "f2")).measure({"x": x}, None, signs_of(0))
    monkeypatch.setattr("aznas_onnx.proxies.engine.block_statistics._PENDING_BYTES", 0)
    assert BlockPass(program, blocks("f0", "f1", "f2")).measure({"x": x}, None, signs_of(0)) == expected


def test_small_pieces_give_the_same(monkeypatch):
    program, x = residual_network(), torch.randn(6, 3, 8, 8)
    expected = BlockPass(program, blocks("f0", "f1", "f2")).measure({"x": x}, None, signs_of(0))
    monkeypatch.setattr("aznas_onnx.proxies.engine.moments._PIECE_ELEMENTS", 1)
    found = BlockPass(program, blocks("f0", "f1", "f2")).measure({"x": x}, None, signs_of(0))
    assert [e.sigma for e in found[1:]] == pytest.approx([e.sigma for e in expected[1:]], rel=1e-5)
    assert np.allclose([e.entropy for e in found], [e.entropy for e in expected], rtol=1e-5)


# ---- on a device that computes on its own -------------------------------------------------------------------------
def meta_network():
    """The residual network on the device without data, on which whatever asks for a number fails."""
    with torch.device("meta"):
        weights = [torch.empty(8, 3, 3, 3), torch.empty(8, 8, 3, 3), torch.empty(16, 8, 3, 3)]
    return program_of(
        [
            ("f0", conv(weights[0]), ("x",)),
            ("a1", F.relu, ("f0",)),
            ("b1", conv(weights[1]), ("a1",)),
            ("f1", torch.add, ("b1", "f0")),
            ("f2", conv(weights[2], 2), ("f1",)),
        ]
    )


@pytest.mark.parametrize("debias", [False, True])
@pytest.mark.parametrize("samples", [1, 6])
def test_nothing_in_the_loop_asks_the_device_for_a_number(monkeypatch, debias: bool, samples: int) -> None:
    """A tensor without data has no number to give: `item`, `bool` of one, `nonzero` and copies to the host fail."""
    reduced = []

    def finish(self: BlockStatistics, measured: Sequence[Block]) -> tuple[BlockEvidence, ...]:
        self._reduce()  # spectra stay on the device, too
        reduced.extend(self._numbers)
        return tuple(BlockEvidence(name=block.name) for block in measured)

    monkeypatch.setattr(BlockStatistics, "finish", finish)
    run = BlockPass(meta_network(), blocks("f0", "f1", "f2"), debias=debias)
    run.measure(
        {"x": torch.empty(samples, 3, 4, 4, device="meta")}, None, lambda _index, output: torch.empty_like(output)
    )
    assert {number.value.device.type for number in reduced} == {"meta"}
    assert {(number.block, number.field) for number in reduced} >= {(0, "entropy"), (1, "sigma"), (2, "sigma")}
    with pytest.raises(RuntimeError):  # what the test relies on
        reduced[0].value.item()


def test_matrices_of_one_width_are_solved_in_one_call(monkeypatch) -> None:
    calls = []
    solve = torch.linalg.eigvalsh
    monkeypatch.setattr(
        torch.linalg, "eigvalsh", lambda stack, **how: calls.append((*stack.shape,)) or solve(stack, **how)
    )
    program, x = residual_network(), torch.randn(6, 3, 8, 8)
    BlockPass(program, blocks("f0", "f1", "f2")).measure({"x": x}, None, signs_of(0))
    assert sorted(calls) == [(3, 8, 8), (2, 16, 16)] or sorted(calls) == [(2, 16, 16), (3, 8, 8)]
