from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from aznas_onnx import spaces
from aznas_onnx.errors import ModelError
from aznas_onnx.export import TrainableNetwork, initialised

SPACES = {
    "nb201": {"resolution": 16},
    "mbv2": {"resolution": 32},
    "transnas-micro": {"resolution": 32},
    "transnas-macro": {"resolution": 32},
    "autoformer-tiny": {"resolution": 32},
    "nb-macro": {"resolution": 16},
    "mnasnet": {"resolution": 32},
    "darts": {"resolution": 16},
    "vit": {"resolution": 32},
    "pit": {"resolution": 48},
    "nats-sss": {"resolution": 16},
    "nb101": {"resolution": 8},
    "bert": {"resolution": 16},
    "gpt": {"resolution": 16, "num_classes": 500},
}


class Small(nn.Module):
    """The same in plain torch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4, eps=1e-3)
        self.fc = nn.Linear(4, 5)
        for parameter in self.parameters():
            nn.init.normal_(parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.fc(self.bn(self.conv(x)).relu().mean((2, 3)))
        return result


def small() -> tuple[Small, onnx.ModelProto]:
    torch.manual_seed(0)
    plain = Small()
    normalised = ("a", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
    nodes = [
        helper.make_node("Conv", ("x", "conv.weight", "conv.bias"), ("a",), kernel_shape=(3, 3), pads=(1, 1, 1, 1)),
        helper.make_node("BatchNormalization", normalised, ("b",), epsilon=1e-3),
        helper.make_node("Relu", ("b",), ("c",)),
        helper.make_node("GlobalAveragePool", ("c",), ("d",)),
        helper.make_node("Flatten", ("d",), ("e",)),
        helper.make_node("Gemm", ("e", "fc.weight", "fc.bias"), ("y",), transB=1),
    ]
    weights = {key: value.numpy() for key, value in plain.state_dict().items() if value.dim()}
    return plain, model(nodes, weights, (3, 8, 8), 5)


def model(
    nodes: Sequence[onnx.NodeProto], weights: Mapping[str, npt.NDArray[np.float32]], shape: Sequence[int], outputs: int
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ("batch", *shape))],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ("batch", outputs))],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)])


def in_onnxruntime(proto: onnx.ModelProto, samples: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: samples.numpy()})
    return torch.from_numpy(output)


def from_space(name: str) -> tuple[spaces.Space[object], object, onnx.ModelProto]:
    space = spaces.get(name, **SPACES[name])
    genotype = space.sample(np.random.default_rng(1))
    return space, genotype, initialised(space.build(genotype), seed=0)


def scrambled(network: TrainableNetwork) -> None:
    """Give every parameter and statistic a value of its own, so that none can stand in for another."""
    torch.manual_seed(1)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.mul_(1 + 0.1 * torch.rand_like(tensor)).add_(0.01 * torch.rand_like(tensor))


@pytest.mark.parametrize("name", SPACES)
def test_every_parameter_of_a_space_is_one_of_the_module(name: str) -> None:
    space, genotype, proto = from_space(name)
    network = TrainableNetwork(proto)
    assert sum(parameter.numel() for parameter in network.parameters()) == space.params(genotype)
    stored = {tensor.name for tensor in proto.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    assert set(network.state_dict()) <= stored
    for parameter in network.parameters():
        assert parameter.requires_grad


@pytest.mark.parametrize("name", SPACES)
def test_it_computes_what_onnxruntime_computes_at_any_batch(name: str) -> None:
    space, _, proto = from_space(name)
    network = TrainableNetwork(proto)
    scrambled(network)
    network.eval()
    changed = network.to_onnx(proto)
    for batch_size in (1, 3):
        samples = torch.from_numpy(space.random_input(np.random.default_rng(0), batch_size))
        with torch.no_grad():
            found = network(samples)
        expected = in_onnxruntime(changed, samples)
        assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("name", SPACES)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    space, _, proto = from_space(name)
    network = TrainableNetwork(proto)
    network(torch.from_numpy(space.random_input(np.random.default_rng(0), 2))).square().mean().backward()
    assert [key for key, parameter in network.named_parameters() if parameter.grad is None] == []


def test_it_trains_like_the_same_network_in_plain_torch() -> None:
    plain, proto = small()
    network = TrainableNetwork(proto)
    optimizers = [torch.optim.SGD(one.parameters(), lr=0.1, momentum=0.9) for one in (plain, network)]
    generator = torch.Generator().manual_seed(0)
    for batch_size in (4, 6, 4):
        samples = torch.randn(batch_size, 3, 8, 8, generator=generator)
        for one, optimizer in zip((plain, network), optimizers, strict=True):
            optimizer.zero_grad()
            one(samples).square().mean().backward()
            optimizer.step()
    expected = {key: value for key, value in plain.state_dict().items() if value.dim()}
    found = network.state_dict()
    assert set(found) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value)
    samples = torch.randn(5, 3, 8, 8, generator=generator)
    torch.testing.assert_close(network.eval()(samples), plain.eval()(samples))


def test_a_table_is_trained_as_a_table() -> None:
    _, _, proto = from_space("autoformer-tiny")
    network = TrainableNetwork(proto)
    tables = {key: parameter for key, parameter in network.named_parameters() if "rel_pos" in key}
    assert tables
    assert {parameter.shape for parameter in tables.values()} == {(30, 64)}


def test_trained_weights_go_back_into_the_file(tmp_path: Path) -> None:
    _, proto = small()
    onnx.save(proto, tmp_path / "model.onnx")
    network = TrainableNetwork(tmp_path / "model.onnx")
    scrambled(network)
    written = network.to_onnx(tmp_path / "model.onnx")
    onnx.checker.check_model(written, full_check=True)
    samples = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(in_onnxruntime(written, samples), network.eval()(samples).detach())
    again = TrainableNetwork(written)
    for key, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)


def test_it_can_be_copied_and_moved() -> None:
    _, proto = small()
    network = TrainableNetwork(proto).eval()
    samples = torch.randn(2, 3, 8, 8)
    expected = network(samples)
    other = copy.deepcopy(network)
    with torch.no_grad():
        network.get_parameter("fc.bias").add_(1)
    torch.testing.assert_close(other(samples), expected)
    torch.testing.assert_close(network(samples), expected + 1)
    torch.testing.assert_close(network.double()(samples.double()).float(), expected + 1)


def test_names_that_stand_in_each_others_way_are_kept_apart() -> None:
    nodes = [
        helper.make_node("Gemm", ("x", "w", "b"), ("a",)),
        helper.make_node("Gemm", ("a", "w.v", "train"), ("c",)),
        helper.make_node("Gemm", ("c", ".u.", "forward"), ("y",)),
    ]
    weights = {name: np.full((4, 4), index, np.float32) for index, name in enumerate(("w", "w.v", ".u."))}
    weights |= {name: np.full((4,), index, np.float32) for index, name in enumerate(("b", "train", "forward"))}
    network = TrainableNetwork(model(nodes, weights, (4,), 4))
    assert len(network.state_dict()) == 6
    assert network.train() is network
    expected = torch.ones(2, 4)
    for weight, bias in (("w", "b"), ("w.v", "train"), (".u.", "forward")):
        expected = expected @ torch.from_numpy(weights[weight]) + torch.from_numpy(weights[bias])
    torch.testing.assert_close(network(torch.ones(2, 4)).detach(), expected)


def test_a_network_without_weights_is_refused() -> None:
    space = spaces.get("nb201")
    with pytest.raises(ModelError, match=r"no weights to train; .* aznas_onnx\.export\.initialised"):
        TrainableNetwork(space.build(space.sample(np.random.default_rng(0))))


def test_a_network_with_two_outputs_is_refused() -> None:
    _, proto = small()
    proto.graph.output.append(helper.make_tensor_value_info("e", onnx.TensorProto.FLOAT, ("batch", 4)))
    with pytest.raises(ModelError, match="1 inputs and 2 outputs; one of each"):
        TrainableNetwork(proto)
