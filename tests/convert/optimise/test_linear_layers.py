"""Linear layers by oneDNN compute what torch computes, and are found where they are layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from aznas_onnx.convert import Program, compile_program
from aznas_onnx.convert.optimise import large_maps, linear_layers, optimised
from aznas_onnx.convert.optimise.linear_layers import LinearLayer, with_linear_layers
from aznas_onnx.graph import Model, prepare, specialise
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.initialise import draw, plan_weights
from tests.convert.optimise.running import output_and_derivative

CPU = torch.device("cpu")
WIDTH, HIDDEN = 6, 12
GELUS = ["", "none", "tanh"]

needs_kernel = pytest.mark.skipif(linear_layers._kernel() is None, reason="this torch has no linear layer by oneDNN")


@pytest.fixture
def small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_layers, "_LEAST_MACS", 1)


def plain(layer: LinearLayer, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    made = torch.matmul(x, weight.t() if layer.by_output else weight)
    made = made if bias is None else made + bias
    return F.gelu(made, approximate=layer.gelu) if layer.gelu else made


@given(
    sizes=st.tuples(*[st.integers(1, 40)] * 4),
    by_output=st.booleans(),
    gelu=st.sampled_from(GELUS),
    owns_gradient=st.booleans(),
    has_bias=st.booleans(),
    is_transposed=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_results_and_derivatives(
    sizes: tuple[int, int, int, int],
    by_output: bool,
    gelu: str,
    owns_gradient: bool,
    has_bias: bool,
    is_transposed: bool,
    dtype: torch.dtype,
) -> None:
    samples, tokens, width, out = sizes
    source = torch.Generator().manual_seed(samples)
    shapes = [(samples, tokens, width), (out, width) if by_output else (width, out), (out,), (samples, tokens, out)]
    x, weight, bias, gradient = (torch.randn(shape, generator=source, dtype=dtype) for shape in shapes)
    x = x.transpose(0, 1).contiguous().transpose(0, 1) if is_transposed else x
    layer = LinearLayer(by_output=by_output, gelu=gelu, owns_gradient=owns_gradient)
    operands = (weight, bias if has_bias else None)
    leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
    expected = plain(layer, leaf, *operands)
    (expected_gradient,) = torch.autograd.grad(expected, leaf, gradient.clone())
    found = layer(leaf, *operands)
    (found_gradient,) = torch.autograd.grad(found, leaf, gradient.clone())
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found_gradient, expected_gradient, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(layer(x, *operands), expected.detach(), atol=1e-4, rtol=1e-4)
    assert found.stride() == layer(x, *operands).stride() == torch.empty(shapes[-1]).stride()


@pytest.mark.parametrize("gelu", GELUS)
def test_weights_have_a_derivative_where_it_is_asked_for(gelu: str) -> None:
    x, weight, bias = torch.randn(4, 3), torch.randn(3, 2, requires_grad=True), torch.randn(2, requires_grad=True)
    layer = LinearLayer(by_output=False, gelu=gelu, owns_gradient=True)
    for constants in ((weight, bias), (weight, bias.detach()), (weight.detach(), bias)):
        wanted = [tensor for tensor in constants if tensor.requires_grad]
        found = torch.autograd.grad(layer(x, *constants).square().sum(), wanted)
        expected = torch.autograd.grad(plain(layer, x, *constants).square().sum(), wanted)
        torch.testing.assert_close(found, expected)


def test_a_result_can_be_overwritten() -> None:
    x = torch.randn(2, 4, 3, requires_grad=True)
    layer = LinearLayer(by_output=False, gelu="none", owns_gradient=False)
    layer(x, torch.randn(3, 2)).mul_(2.0).sum().backward()
    assert x.grad is not None


# ---- where they are found -----------------------------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True)
class Written:
    """One of the ways to write a network of one hidden layer."""

    product: str = "MatMul"  # or "Gemm"
    bias: tuple[int, ...] | None = (HIDDEN,)
    bias_first: bool = False
    reads_product: bool = False  # again, behind the hidden layer
    is_scaled: bool = False


def perceptron(written: Written) -> Model:
    """Return the network at batch size 2."""
    net = GraphBuilder("perceptron", opset=20)
    x = net.reshape(net.conv(net.image_input(3, 5), "stem", 3, WIDTH, kernel=1), "flat", (0, WIDTH, 25))
    x = net.transpose(x, "tokens", (0, 2, 1))
    if written.product == "Gemm":
        x = net.node("ReduceMax", x, net.constant("axis", [1]), name="pooled", keepdims=0)
    bias = () if written.bias is None else (net.weight("b", written.bias),)
    weight = net.weight("w", (WIDTH, HIDDEN))
    if written.product == "Gemm":
        biased = product = net.node("Gemm", x, weight, *bias, name="up", alpha=2.0 if written.is_scaled else 1.0)
    else:
        product = net.node("MatMul", x, weight, name="up")
        operands = (*bias, product) if written.bias_first else (product, *bias)
        biased = net.node("Add", *operands, name="biased") if bias else product
    hidden = net.node("Gelu", biased, name="gelu")
    if written.reads_product:
        hidden = net.add(hidden, product, "product.again")
    y = net.node("MatMul", hidden, net.weight("w2", (HIDDEN, WIDTH)), name="down")
    return specialise(prepare(net.model(y)), 2)


def compiled(model: Model) -> Program:
    weights = draw(plan_weights(model.graph, model.infos, is_transformer=True), seed=0, device=CPU)
    return compile_program(model.graph, model.infos, weights, device=CPU, training=True)


def layers_in(program: Program, model: Model) -> list[str]:
    """Return the operators of each linear layer."""
    types = {node.name: node.op_type for node in model.graph.nodes}
    steps = [step for step in program.steps if isinstance(step.run, LinearLayer)]
    return [" ".join(types[name] for name in (*step.absorbed, step.node)) for step in steps]


@needs_kernel
@pytest.mark.usefixtures("small_products")
@pytest.mark.parametrize(
    ("written", "first"),
    [
        (Written(), "MatMul Add Gelu"),
        (Written(bias_first=True), "MatMul Add Gelu"),
        (Written(bias=None), "MatMul Gelu"),
        (Written(product="Gemm"), "Gemm Gelu"),
        (Written(product="Gemm", bias=None), "Gemm Gelu"),
        (Written(bias=(1,)), "MatMul"),  # no bias of a layer
        (Written(bias=(25, HIDDEN)), "MatMul"),  # a table of positions
        (Written(reads_product=True), "MatMul"),
        (Written(product="Gemm", reads_product=True), "Gemm"),
        (Written(product="Gemm", is_scaled=True), ""),
        (Written(product="Gemm", bias=(1,)), ""),
    ],
    ids=repr,
)
@pytest.mark.parametrize("large_bytes", [1, 2**23])
def test_a_layer_is_found_with_what_only_its_result_passes_through(
    written: Written, first: str, large_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_maps, "_LARGE_BYTES", large_bytes)
    model = perceptron(written)
    plain = compiled(model)
    found = with_linear_layers(plain, model.graph, model.infos, (), CPU)
    assert layers_in(found, model) == [*filter(None, [first]), written.product]
    feeds = {"input": torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(1))}
    for program in (found, optimised(plain, model.graph, model.infos, (), CPU)):
        for ours, other in zip(output_and_derivative(program, feeds), output_and_derivative(plain, feeds), strict=True):
            torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-6)


@needs_kernel
@pytest.mark.usefixtures("small_products")
def test_a_tensor_that_is_kept_is_made() -> None:
    model = perceptron(Written())
    (biased,) = (node.outputs[0] for node in model.graph.nodes if node.name == "biased")
    found = with_linear_layers(compiled(model), model.graph, model.infos, (biased,), CPU)
    assert layers_in(found, model) == ["MatMul Add", "MatMul"]


@pytest.mark.parametrize("why", ["small", "device", "kernel"])
def test_other_programs_stay_as_they_are(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if why == "kernel":
        monkeypatch.setattr(linear_layers, "_kernel", lambda: None)
    if why != "small":
        monkeypatch.setattr(linear_layers, "_LEAST_MACS", 1)
    model = perceptron(Written())
    plain = compiled(model)
    device = torch.device("meta") if why == "device" else CPU
    assert with_linear_layers(plain, model.graph, model.infos, (), device).steps == plain.steps


# ---- a private operator -------------------------------------------------------------------------------------------
@needs_kernel
def test_a_kernel_is_known_by_what_it_computes() -> None:
    def other(*operands: Any) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(*operands) + 1.0

    def refusing(*operands: Any) -> torch.Tensor:
        raise RuntimeError("unsupported")

    assert linear_layers._is_known(torch.ops.mkldnn._linear_pointwise)
    assert not linear_layers._is_known(other)
    assert not linear_layers._is_known(refusing)


@pytest.mark.parametrize("gelu", GELUS)
def test_without_a_kernel_a_layer_computes_the_same(gelu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_layers, "_kernel", lambda: None)
    x, weight, bias = torch.randn(2, 4, 3, requires_grad=True), torch.randn(3, 2), torch.randn(2)
    layer = LinearLayer(by_output=False, gelu=gelu, owns_gradient=True)
    found, expected = layer(x, weight, bias), plain(layer, x, weight, bias)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(y.square().sum(), x) for y in (found, expected)]
    torch.testing.assert_close(*gradients)
