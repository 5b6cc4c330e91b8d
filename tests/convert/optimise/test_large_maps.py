"""Steps for large feature maps: the results and derivatives of the plain ones, in less memory."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from aznas_onnx.blocks import find_blocks
from aznas_onnx.convert import compile_program
from aznas_onnx.convert.operators.convolution import Convolution
from aznas_onnx.convert.optimise import large_maps
from aznas_onnx.convert.optimise.inplace import run_inplace
from aznas_onnx.convert.optimise.large_maps import ConvWithoutSavedInput, softmax_in_place
from aznas_onnx.convert.optimise.normalised_activation import NormalisedActivation
from aznas_onnx.convert.optimise.normalised_pointwise import NormalisedPointwise
from aznas_onnx.convert.program import Program
from aznas_onnx.graph import prepare, specialise
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.initialise import draw, plan_weights
from aznas_onnx.proxies.engine.blockpass import BlockPass
from aznas_onnx.proxies.engine.compiled_network import RandomNetwork
from tests.convert.optimise.running import output_and_derivative

CPU = torch.device("cpu")


def maps(*shape: int, memory_format: torch.memory_format, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=source).mul_(3.0).add_(2.0).contiguous(memory_format=memory_format)


@pytest.mark.parametrize(
    "shape", [(1,), (3, 1), (7, 5), (4, 33), (2, 3, 197, 197), (5, 1024), (2, 4099), (0, 4)], ids=str
)
def test_a_softmax_in_place_is_the_same_to_the_bit(shape: tuple[int, ...]) -> None:
    x, gradient = (torch.randn(shape, generator=torch.Generator().manual_seed(at)) * 9 for at in range(2))
    leaf = x.clone().requires_grad_()
    expected = torch.softmax(leaf, -1)
    (expected_gradient,) = torch.autograd.grad(expected, leaf, gradient)
    leaf = x.clone().requires_grad_()
    found = softmax_in_place(leaf * 1.0)
    (found_gradient,) = torch.autograd.grad(found, leaf, gradient.clone())
    assert torch.equal(found, expected)
    assert torch.equal(found_gradient, expected_gradient)
    overwritten = x.clone()
    assert softmax_in_place(overwritten).data_ptr() == overwritten.data_ptr()
    assert torch.equal(overwritten, expected)


STRIDED = Convolution(strides=(2, 2), padding=(1, 1), dilations=(1, 1), groups=1)


@pytest.mark.parametrize(("run", "is_saved"), [(STRIDED, True), (ConvWithoutSavedInput(STRIDED), False)])
def test_a_convolution_frees_its_input(run: Callable[[Tensor, Tensor], Tensor], is_saved: bool) -> None:
    leaf = maps(2, 4, 8, 8, memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(6, 4, 3, 3)
    x = leaf * 2.0
    result = run(x, weight)
    reference = weakref.ref(x)
    del x
    gc.collect()
    assert (reference() is not None) is is_saved
    gradient = torch.randn_like(result)
    (expected,) = torch.autograd.grad(STRIDED(leaf * 2.0, weight), leaf, gradient)
    (found,) = torch.autograd.grad(result, leaf, gradient)
    assert torch.equal(expected, found)


def test_a_weight_with_a_derivative_saves_the_input() -> None:
    weight = torch.randn(6, 4, 3, 3, requires_grad=True)
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    expected = torch.autograd.grad(STRIDED(x, weight).sum(), (x, weight))
    found = torch.autograd.grad(ConvWithoutSavedInput(STRIDED)(x, weight).sum(), (x, weight))
    assert all(map(torch.equal, expected, found))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_derivative_by_the_input(data: st.DataObject) -> None:
    """Depthwise, grouped or neither; of any stride, padding and dilation; over one to three axes."""
    rank = data.draw(st.integers(1, 3))

    def numbers(least: int, most: int) -> tuple[int, ...]:
        return tuple(data.draw(st.integers(least, most)) for _ in range(rank))

    groups, per_group, outputs = data.draw(st.sampled_from([(1, 3, 4), (2, 2, 3), (4, 1, 1), (3, 1, 2)]))
    kernel, dilations = numbers(1, 3), numbers(1, 2)
    convolution = Convolution(strides=numbers(1, 2), padding=numbers(0, 3), dilations=dilations, groups=groups)
    source = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    sizes = [
        size + dilation * (width - 1) for size, dilation, width in zip(numbers(1, 5), dilations, kernel, strict=True)
    ]
    x = torch.randn(2, groups * per_group, *sizes, generator=source, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(groups * outputs, per_group, *kernel, generator=source, dtype=torch.float64)
    bias = torch.randn(groups * outputs, generator=source, dtype=torch.float64)
    expected = convolution(x, weight, bias)
    gradient = torch.randn(expected.shape, generator=source, dtype=torch.float64)
    found = ConvWithoutSavedInput(convolution)(x, weight, bias)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, x, gradient), torch.autograd.grad(expected, x, gradient))


def inverted_residual() -> tuple[Program, Program]:
    """Return an inverted residual block, plain and overwriting."""
    net = GraphBuilder("block")
    x = net.conv(net.image_input(3, 16), "stem", 3, 8, kernel=3)
    y = net.relu(net.batch_norm(net.conv(x, "expand", 8, 24, kernel=1), "bn1", 24), "relu1")
    y = net.relu(net.batch_norm(net.conv(y, "depthwise", 24, 24, kernel=3, groups=24), "bn2", 24), "relu2")
    y = net.add(net.batch_norm(net.conv(y, "project", 24, 8, kernel=1), "bn3", 8), x, "sum")
    net.declare_block(y)
    model = specialise(prepare(net.model(net.classifier(y, "head", 8, num_classes=3))), 4)
    weights = draw(plan_weights(model.graph, model.infos, is_transformer=False), seed=0, device=CPU)
    plain = compile_program(model.graph, model.infos, weights, device=CPU, training=True)
    return plain, run_inplace(plain, model.graph, model.infos, {y})


def derivative(program: Program) -> Tensor:
    return output_and_derivative(program, {"input": maps(4, 3, 16, 16, memory_format=torch.channels_last)})[1]


def test_a_block_has_the_same_derivative_in_fewer_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_maps, "_LARGE_BYTES", 0)
    plain, joined = inverted_residual()
    assert len(plain.steps) - len(joined.steps) == 3
    runs = [step.run for step in joined.steps]
    assert sum(isinstance(run, NormalisedPointwise) for run in runs) == 1
    assert sum(isinstance(run, NormalisedActivation) for run in runs) == 1
    assert sum(isinstance(run, ConvWithoutSavedInput) for run in runs) == 3
    torch.testing.assert_close(derivative(joined), derivative(plain), rtol=1e-4, atol=1e-5)


def test_small_maps_are_left_alone() -> None:
    plain, overwrites = inverted_residual()
    assert len(plain.steps) == len(overwrites.steps)
    assert not any(isinstance(step.run, (ConvWithoutSavedInput, NormalisedActivation)) for step in overwrites.steps)


@pytest.mark.parametrize(("epsilons", "shared"), [((1e-5, 1e-5), {1: 2}), ((1e-5, 10.0), {})])
def test_joined_steps_still_tell_blocks_apart(
    monkeypatch: pytest.MonkeyPatch, epsilons: tuple[float, float], shared: dict[int, int]
) -> None:
    monkeypatch.setattr(large_maps, "_LARGE_BYTES", 0)
    net = GraphBuilder("blocks")
    x = net.conv(net.image_input(3, 16), "stem", 3, 8, kernel=3)
    net.declare_block(x)
    for number, epsilon in enumerate(epsilons):
        start = net.conv(x, f"first{number}", 8, 8, kernel=1)
        inner = net.relu(net.batch_norm(start, f"bn{number}", 8, epsilon=epsilon), f"relu{number}")
        x = net.add(net.conv(inner, f"second{number}", 8, 8, kernel=3), start, f"sum{number}")
        net.declare_block(x)
    model = prepare(net.model(net.classifier(x, "head", 8, num_classes=3)))
    network = RandomNetwork(model, is_transformer=False, batch_size=4, device=CPU).at()
    assert BlockPass.of(network, find_blocks(model).blocks, share_repeats=True).representatives == shared
