"""Average pools as depthwise convolutions: the results, derivatives and memory order of torch's pools."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from aznas_onnx.convert import Program, compile_program
from aznas_onnx.convert.operators.pooling import AveragePool
from aznas_onnx.convert.optimise import average_pools
from aznas_onnx.convert.optimise.average_pools import AverageOfNeighbours, with_pools_as_convolutions
from aznas_onnx.graph import prepare, specialise
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.graph.ir.tensor_info import TensorInfos

POOL = AveragePool(kernel=(3, 3), strides=(1, 1), padding=(1, 1), rounds_up=False, counts_pads=False)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format], ids=str)
@pytest.mark.parametrize("counts_pads", [False, True])
@pytest.mark.parametrize("kernel", [(3, 3), (5, 3), (1, 7)], ids=str)
@pytest.mark.parametrize("shape", [(2, 5, 7, 9), (1, 1, 7, 7), (3, 16, 8, 7)], ids=str)
def test_results_and_derivatives_are_those_of_the_pool(
    shape: tuple[int, ...], kernel: tuple[int, int], counts_pads: bool, memory_format: torch.memory_format
) -> None:
    pads = (kernel[0] // 2, kernel[1] // 2)
    pool = replace(POOL, kernel=kernel, padding=pads, counts_pads=counts_pads)
    source = torch.Generator().manual_seed(0)
    x, gradient = (torch.randn(shape, generator=source).to(memory_format=memory_format) for _ in range(2))
    found: list[torch.Tensor] = []
    expected: list[torch.Tensor] = []
    for run, into in ((AverageOfNeighbours(pool), found), (pool, expected)):
        leaf = x.clone().requires_grad_()
        output = run(leaf)
        into += [output, run(x), *torch.autograd.grad(output, leaf, gradient)]
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)
        assert mine.stride() == other.stride()


def test_a_narrow_type_is_pooled_by_torch() -> None:
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert torch.equal(AverageOfNeighbours(POOL)(x), POOL(x))


def pooling(**attributes: object) -> tuple[Program, TensorInfos]:
    """Return the program of one average pool, and its infos."""
    net = GraphBuilder("pooling")
    x = net.conv(net.image_input(3, 8), "stem", 3, 4, kernel=3)
    x = net.node("AveragePool", x, name="pool", **attributes)
    model = specialise(prepare(net.model(net.classifier(x, "head", 4, num_classes=3))), 2)
    program = compile_program(model.graph, model.infos, {}, device=torch.device("cpu"), training=True)
    return program, model.infos


SAME = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}


@pytest.mark.parametrize(
    ("attributes", "least_bytes", "is_replaced"),
    [
        (SAME, 0, True),
        (SAME, 2**19, False),
        ({**SAME, "strides": [2, 2]}, 0, False),
        ({**SAME, "pads": [0, 0, 0, 0]}, 0, False),
        ({"kernel_shape": [2, 2]}, 0, False),
        ({"kernel_shape": [9, 9], "pads": [4, 4, 4, 4]}, 0, False),
    ],
)
def test_pools_that_keep_the_size_of_a_large_map_are_replaced(
    monkeypatch: pytest.MonkeyPatch, attributes: dict[str, object], least_bytes: int, is_replaced: bool
) -> None:
    monkeypatch.setattr(average_pools, "_LEAST_BYTES", least_bytes)
    program, infos = pooling(**attributes)
    (step,) = (step for step in with_pools_as_convolutions(program, infos).steps if step.node == "pool")
    assert isinstance(step.run, AverageOfNeighbours) == is_replaced
