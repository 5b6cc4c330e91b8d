"""One network as several exporters write it: PyTorch's two, and the habits of others written down here.

A network is a function of a writer. Writers differ in layout, in the names of constants, and in how they write
biases, normalisation and means; what the network computes is the same.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

__all__ = ["EXPORTERS", "NETWORKS", "Network", "export"]

SIZE = 16
Network = Callable[[Any, Any], Any]
"""From a writer and its input to its output."""


def plain(w: Any, x: Any) -> Any:
    x = w.relu(w.norm(w.conv(x, 3, 16), 16))
    x = w.relu(w.norm(w.conv(w.max_pool(x), 16, 32, bias=True), 32))
    return w.dense(w.mean(x), 32, 5)


def without_normalisation(w: Any, x: Any) -> Any:
    x = w.max_pool(w.relu(w.conv(x, 3, 16, bias=True)))
    return w.dense(w.mean(w.relu(w.conv(x, 16, 32, bias=True))), 32, 5)


def residual(w: Any, x: Any) -> Any:
    x = w.relu(w.norm(w.conv(x, 3, 16), 16))
    for _ in range(2):
        y = w.relu(w.norm(w.conv(x, 16, 16), 16))
        x = w.relu(w.add(x, w.norm(w.conv(y, 16, 16), 16)))
    return w.dense(w.mean(x), 16, 5)


def pre_activation(w: Any, x: Any) -> Any:
    x = w.conv(x, 3, 16, bias=True)
    for _ in range(2):
        y = w.conv(w.relu(w.norm(x, 16)), 16, 16)
        x = w.add(x, w.conv(w.relu(w.norm(y, 16)), 16, 16, bias=True))
    return w.dense(w.mean(w.relu(w.norm(x, 16))), 16, 5)


def dense_blocks(w: Any, x: Any) -> Any:
    x, channels = w.relu(w.norm(w.conv(x, 3, 16), 16)), 16
    for _ in range(2):
        y = w.conv(w.relu(w.norm(x, channels)), channels, 32, k=1)
        x = w.concat(x, w.conv(w.relu(w.norm(y, 32)), 32, 8))
        channels += 8
    x = w.max_pool(w.conv(w.relu(w.norm(x, channels)), channels, 16, k=1))
    return w.dense(w.mean(w.relu(w.norm(x, 16))), 16, 5)


def inverted_residual(w: Any, x: Any) -> Any:
    x = w.hard_swish(w.norm(w.conv(x, 3, 16), 16))
    y = w.hard_swish(w.norm(w.conv(x, 16, 32, k=1), 32))
    y = w.hard_swish(w.norm(w.conv(y, 32, 32, groups=32), 32))
    x = w.add(x, w.norm(w.conv(y, 32, 16, k=1), 16))
    return w.dense(w.mean(x), 16, 5)


def behind_the_activation(w: Any, x: Any) -> Any:
    x = w.max_pool(w.norm(w.relu(w.conv(x, 3, 16, bias=True)), 16))
    return w.dense(w.mean(w.norm(w.relu(w.conv(x, 16, 32, bias=True)), 32)), 32, 5)


def in_groups(w: Any, x: Any) -> Any:
    x = w.relu(w.group_norm(w.conv(x, 3, 16, bias=True), 16, 4))
    return w.dense(w.mean(w.relu(w.group_norm(w.conv(x, 16, 32), 32, 4))), 32, 5)


NETWORKS: dict[str, Network] = {
    network.__name__: network
    for network in (
        plain, without_normalisation, residual, pre_activation, dense_blocks, inverted_residual, behind_the_activation,
        in_groups,
    )
}  # fmt: skip


class _Torch(nn.Module):
    """A writer that runs; its layers are made in the first pass."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.layers = nn.ModuleList()
        self.position = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.position = 0
        made: torch.Tensor = self.network(self, x)
        return made

    def _layer(self, make: Callable[[], nn.Module], x: torch.Tensor) -> Any:
        if self.position == len(self.layers):
            self.layers.append(make())
        self.position += 1
        return self.layers[self.position - 1](x)

    def conv(self, x: Any, i: int, o: int, k: int = 3, groups: int = 1, *, bias: bool = False) -> Any:
        return self._layer(lambda: nn.Conv2d(i, o, k, padding=k // 2, groups=groups, bias=bias), x)

    def norm(self, x: Any, c: int) -> Any:
        return self._layer(lambda: nn.BatchNorm2d(c), x)

    def group_norm(self, x: Any, c: int, groups: int) -> Any:
        return self._layer(lambda: nn.GroupNorm(groups, c), x)

    def dense(self, x: Any, i: int, o: int) -> Any:
        return self._layer(lambda: nn.Linear(i, o), x)

    def relu(self, x: Any) -> Any:
        return torch.relu(x)

    def hard_swish(self, x: Any) -> Any:
        return nn.functional.hardswish(x)

    def add(self, x: Any, y: Any) -> Any:
        return x + y

    def concat(self, x: Any, y: Any) -> Any:
        return torch.cat([x, y], 1)

    def max_pool(self, x: Any) -> Any:
        return nn.functional.max_pool2d(x, 2)

    def mean(self, x: Any) -> Any:
        return x.mean((2, 3))


class _Onnx:
    """A writer of nodes on channels-last tensors, as most other frameworks have them.

    Convolutions and pools stand between Transposes; normalisation and biases are arithmetic.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(0)

    def node(self, operator: str, *inputs: str, hint: str = "", **attributes: Any) -> str:
        output = hint or f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], f"n{len(self.nodes)}", **attributes))
        return output

    def constant(self, values: npt.NDArray[Any] | Sequence[int] | float, name: str = "") -> str:
        array = np.asarray(values)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
        name = name or f"const_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def trained(self, *shape: int, around: float = 0.0) -> npt.NDArray[Any]:
        return self.random.standard_normal(shape) * 0.2 + around

    def first(self, x: str) -> str:
        return self.node("Transpose", x, perm=[0, 3, 1, 2])

    def last(self, x: str) -> str:
        return self.node("Transpose", x, perm=[0, 2, 3, 1])

    def convolution(self, x: str, i: int, o: int, k: int, groups: int, *bias: str) -> str:
        weight = self.constant(self.trained(o, i // groups, k, k))
        return self.node("Conv", x, weight, *bias, pads=[k // 2] * 4, group=groups)

    def conv(self, x: str, i: int, o: int, k: int = 3, groups: int = 1, *, bias: bool = False) -> str:
        operands = (self.constant(self.trained(o)),) if bias else ()
        return self.last(self.convolution(self.first(x), i, o, k, groups, *operands))

    def statistics(self, c: int) -> list[npt.NDArray[Any]]:
        """Return mean, variance, scale and shift."""
        return [self.trained(c), np.abs(self.trained(c)) + 0.5, self.trained(c, around=1.0), self.trained(c)]

    def norm(self, x: str, c: int) -> str:
        raise NotImplementedError

    def group_norm(self, x: str, c: int, groups: int) -> str:
        """Moments of groups between reshapes, scale and shift after them: Flax."""
        positions = self.positions
        axes = self.constant([1, 2, 4])
        r = self.node("Reshape", x, self.constant([0, *positions, groups, c // groups]))
        mean, squares = (self.node("ReduceMean", v, axes, keepdims=1) for v in (r, self.node("Mul", r, r)))
        variance = self.node("Sub", squares, self.node("Mul", mean, mean))
        variance = self.node("Add", self.node("Max", variance, self.constant(0.0)), self.constant(1e-5))
        z = self.node("Div", self.node("Sub", r, mean), self.node("Sqrt", variance))
        z = self.node("Reshape", z, self.constant([0, *positions, c]))
        z = self.node("Mul", z, self.constant(self.trained(1, 1, 1, c, around=1.0)))
        return self.node("Add", z, self.constant(self.trained(1, 1, 1, c)))

    @property
    def positions(self) -> tuple[int, int]:
        pools = sum(node.op_type == "MaxPool" for node in self.nodes)
        return SIZE >> pools, SIZE >> pools

    def dense(self, x: str, i: int, o: int) -> str:
        product = self.node("MatMul", x, self.constant(self.trained(i, o)))
        return self.node("Add", product, self.constant(self.trained(o)))

    def relu(self, x: str) -> str:
        return self.node("Relu", x)

    def hard_swish(self, x: str) -> str:
        inner = self.node("Clip", self.node("Add", x, self.constant(3.0)), self.constant(0.0), self.constant(6.0))
        return self.node("Mul", x, self.node("Div", inner, self.constant(6.0)))

    def add(self, x: str, y: str) -> str:
        return self.node("Add", x, y)

    def concat(self, x: str, y: str) -> str:
        return self.node("Concat", x, y, axis=3)

    def max_pool(self, x: str) -> str:
        return self.last(self.node("MaxPool", self.first(x), kernel_shape=[2, 2], strides=[2, 2]))

    def mean(self, x: str) -> str:
        return self.node("ReduceMean", x, self.constant([1, 2]), keepdims=0)


class _KerasOnTorch(_Onnx):
    """Biases are Adds of their own; TorchScript names constants by the operator that reads them."""

    def named(self, operator: str, values: npt.NDArray[Any]) -> str:
        return self.constant(values, f"onnx::{operator}_{len(self.constants) + 400}")

    def convolution(self, x: str, i: int, o: int, k: int, groups: int, *bias: str) -> str:
        weight = self.named("Conv", self.trained(o, i // groups, k, k))
        return self.node("Conv", x, weight, pads=[k // 2] * 4, group=groups)

    def conv(self, x: str, i: int, o: int, k: int = 3, groups: int = 1, *, bias: bool = False) -> str:
        y = super().conv(x, i, o, k, groups)
        return self.node("Add", y, self.named("Add", self.trained(1, 1, 1, o))) if bias else y

    def norm(self, x: str, c: int) -> str:
        mean, variance, scale, shift = (values.reshape(1, 1, 1, c) for values in self.statistics(c))
        centred = self.node("Sub", x, self.named("Sub", mean))
        scaled = self.node("Mul", centred, self.named("Mul", scale / np.sqrt(variance + 1e-3)))
        return self.node("Add", scaled, self.named("Add", shift))


class _Flax(_Onnx):
    """The factor is computed in the graph, from vectors that are broadcast."""

    def norm(self, x: str, c: int) -> str:
        mean, variance, scale, shift = (self.constant(values.reshape(1, 1, 1, c)) for values in self.statistics(c))
        root = self.node("Sqrt", self.node("Add", variance, self.constant(1e-5)))
        factor = self.node("Mul", self.node("Div", self.constant(1.0), root), scale)
        return self.node("Add", self.node("Mul", self.node("Sub", x, mean), factor), shift)


class _Frozen(_Onnx):
    """Mean and variance were multiplied into scale and shift, as in detectors."""

    def norm(self, x: str, c: int) -> str:
        mean, variance, scale, shift = self.statistics(c)
        factor = scale / np.sqrt(variance + 1e-5)
        scaled = self.node("Mul", self.constant(factor), x)
        return self.node("Sub", scaled, self.constant(mean * factor - shift))


class _Tf2onnx(_Onnx):
    """Normalisation is folded into the convolution before it, and else an operator between Transposes."""

    def norm(self, x: str, c: int) -> str:
        mean, variance, scale, shift = self.statistics(c)
        before = self.nodes[-2]  # a Transpose comes after it
        if before.op_type == "Conv" and x == self.nodes[-1].output[0]:
            weight = next(tensor for tensor in self.constants if tensor.name == before.input[1])
            weight.name = f"{before.name}_weights_fused_bn"
            before.input[1:] = [weight.name, self.constant(shift - mean, f"{before.name}_bias_fused_bn")]
            return x
        vectors = [self.constant(values) for values in (scale, shift, mean, variance)]
        return self.last(self.node("BatchNormalization", self.first(x), *vectors))


def export(network: Network, exporter: str) -> onnx.ModelProto:
    """Write a network of random, perturbed weights as an exporter would."""
    return EXPORTERS[exporter](network)


def _torch(network: Network) -> _Torch:
    torch.manual_seed(0)
    module = _Torch(network).eval()
    with torch.no_grad():
        module(torch.zeros(2, 3, SIZE, SIZE))
        for parameter in module.parameters():
            parameter.normal_(0.1, 0.2)
        for name, buffer in module.named_buffers():
            if "running" in name:
                buffer.uniform_(0.5, 1.5)
    return module.eval()


def _by_torch(network: Network, **options: Any) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch about itself
        path = Path(folder) / "network.onnx"
        images = (torch.zeros(2, 3, SIZE, SIZE),)
        torch.onnx.export(_torch(network), images, str(path), input_names=["x"], verbose=False, **options)
        return onnx.load(path)


def _torchscript(network: Network) -> onnx.ModelProto:
    return _by_torch(network, dynamo=False, dynamic_axes={"x": {0: "n"}})


def _dynamo(network: Network) -> onnx.ModelProto:
    return _by_torch(network, dynamo=True, dynamic_shapes=({0: torch.export.Dim("n")},))


def _written_by(writer: type[_Onnx]) -> Callable[[Network], onnx.ModelProto]:
    def write(network: Network) -> onnx.ModelProto:
        made = writer()
        output = network(made, "x")
        graph = helper.make_graph(
            made.nodes,
            "network",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", SIZE, SIZE, 3])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", 5])],
            made.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        onnx.checker.check_model(model)
        return model

    return write


EXPORTERS: dict[str, Callable[[Network], onnx.ModelProto]] = {
    "torchscript": _torchscript,
    "dynamo": _dynamo,
    "keras_on_torch": _written_by(_KerasOnTorch),
    "flax": _written_by(_Flax),
    "frozen": _written_by(_Frozen),
    "tf2onnx": _written_by(_Tf2onnx),
}
