"""Build networks as ONNX without weights, for the search spaces.

A weight is a ``ConstantOfShape`` node over an int64 initialiser with its shape. That is valid ONNX for every runtime
and takes a few bytes for any shape; an initialiser without data would be invalid, and external data would need a file.
Scoring initialises the weights itself, so the fill value is not used. An export replaces the nodes by initialisers with
:func:`fill_weights`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from aznas_onnx.errors import SettingsError
from aznas_onnx.graph.building.built_network import (
    BATCH,
    SHAPE_SUFFIX,
    BuiltNetwork,
    WeightFill,
    declared,
    make_node,
)
from aznas_onnx.graph.ir.graph import Array, GraphInput, Node
from aznas_onnx.operators.operator_record import Attributes

__all__ = ["GraphBuilder", "fill_weights", "weight_shapes"]

_RESHAPE_SUFFIX = ".reshape"
_SPLIT_SUFFIX = ".split"
_PIXELS_SUFFIX = ".pixels"
_SLICE_SUFFIX = ".slice"


class GraphBuilder:
    """A network under construction.

    Every method that adds a node returns the name of its output, which is the name that it was given; parameters are
    called ``<name>.weight``, ``<name>.bias``, ``<name>.running_mean`` and ``<name>.running_var``, as in a PyTorch state
    dict. The batch is symbolic.

    Parameters
    ----------
    name
        Name of the graph.
    opset
        Version of the standard operators, 17 to 20.

    Examples
    --------
    >>> net = GraphBuilder("tiny")
    >>> x = net.image_input(3, 32)
    >>> x = net.conv_bn(x, "stem", 3, 16, kernel=3)
    >>> net.declare_block(x)
    >>> model = net.model(net.classifier(x, "head", 16, num_classes=10))
    >>> weight_shapes(model)["stem.conv.weight"]
    (16, 3, 3, 3)
    """

    def __init__(self, name: str, *, opset: int = 17) -> None:
        self._name = name
        self._opset = opset
        self._inputs: list[GraphInput] = []
        self._steps: list[WeightFill | Node] = []
        self._constants: dict[str, Array] = {}
        self._blocks: list[str] = []
        self._is_transformer = False
        self._names: set[str] = set()

    def image_input(self, channels: int, resolution: int, name: str = "input") -> str:
        """Add the graph's input, shaped (batch, channels, resolution, resolution)."""
        return self._add_input(name, np.float32, (channels, resolution, resolution))

    def token_input(self, tokens: int, name: str = "input_ids") -> str:
        """Add the graph's input, int64 ids shaped (batch, tokens)."""
        return self._add_input(name, np.int64, (tokens,))

    def weight(self, name: str, shape: Sequence[int], *, fill: float = 0.0) -> str:
        """Add a float32 parameter or buffer of a shape; `fill` is its value until it is initialised."""
        self._claim(name)
        self._steps.append(WeightFill(name, tuple(shape), fill))
        return name

    def constant(self, name: str, value: npt.ArrayLike) -> str:
        """Add a tensor that is fixed by the architecture: an index table, a factor, axes."""
        self._claim(name)
        self._constants[name] = np.asarray(value)
        return name

    def node(self, op_type: str, *inputs: str, name: str, **attributes: Any) -> str:
        """Add any standard operator with one output."""
        self._claim(name)
        self._add_node(op_type, inputs, (name,), name, attributes)
        return name

    def conv(
        self,
        x: str,
        name: str,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> str:
        """Add a square convolution with an odd kernel, padded to preserve the resolution at stride 1."""
        parameters = [self.weight(f"{name}.weight", (out_channels, in_channels // groups, kernel, kernel))]
        if bias:
            parameters.append(self.weight(f"{name}.bias", (out_channels,)))
        return self.node(
            "Conv",
            x,
            *parameters,
            name=name,
            kernel_shape=(kernel, kernel),
            strides=(stride, stride),
            pads=(kernel // 2,) * 4,
            group=groups,
        )

    def batch_norm(self, x: str, name: str, channels: int, *, epsilon: float = 1e-5) -> str:
        """Add a BatchNormalization of (batch, channels, ...)."""
        parameters = (
            self.weight(f"{name}.weight", (channels,), fill=1.0),
            self.weight(f"{name}.bias", (channels,)),
            self.weight(f"{name}.running_mean", (channels,)),
            self.weight(f"{name}.running_var", (channels,), fill=1.0),
        )
        return self.node("BatchNormalization", x, *parameters, name=name, epsilon=epsilon)

    def conv_bn(
        self,
        x: str,
        name: str,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        epsilon: float = 1e-5,
    ) -> str:
        """Add a convolution ``<name>.conv`` and a BatchNormalization ``<name>.bn``."""
        x = self.conv(
            x, f"{name}.conv", in_channels, out_channels, kernel=kernel, stride=stride, groups=groups, bias=bias
        )
        return self.batch_norm(x, f"{name}.bn", out_channels, epsilon=epsilon)

    def relu(self, x: str, name: str) -> str:
        """Add a ReLU."""
        return self.node("Relu", x, name=name)

    def add(self, left: str, right: str, name: str) -> str:
        """Add an elementwise sum."""
        return self.node("Add", left, right, name=name)

    def linear(self, x: str, name: str, in_features: int, out_features: int) -> str:
        """Add a linear layer with bias over the last axis of (batch, ..., in_features), as MatMul and Add."""
        weight = self.weight(f"{name}.weight", (in_features, out_features))
        bias = self.weight(f"{name}.bias", (out_features,))
        return self.add(self.node("MatMul", x, weight, name=f"{name}.matmul"), bias, name)

    def layer_norm(self, x: str, name: str, features: int, *, epsilon: float = 1e-5) -> str:
        """Add a LayerNormalization over the last axis."""
        scale = self.weight(f"{name}.weight", (features,), fill=1.0)
        shift = self.weight(f"{name}.bias", (features,))
        return self.node("LayerNormalization", x, scale, shift, name=name, axis=-1, epsilon=epsilon)

    def reshape(self, x: str, name: str, shape: Sequence[int]) -> str:
        """Add a Reshape; 0 copies an axis (the batch), -1 is inferred."""
        shape_name = ",".join(map(str, shape)) + _RESHAPE_SUFFIX
        if shape_name not in self._constants:
            self.constant(shape_name, np.array(shape, dtype=np.int64))
        return self.node("Reshape", x, shape_name, name=name)

    def transpose(self, x: str, name: str, axes: Sequence[int]) -> str:
        """Add a Transpose."""
        return self.node("Transpose", x, name=name, perm=axes)

    def split(self, x: str, name: str, parts: int, width: int, *, axis: int = -1) -> tuple[str, ...]:
        """Add a Split of an axis, the last if none is given, into equal parts ``<name>.0``, ``<name>.1``, ..."""
        sizes = f"{parts}x{width}{_SPLIT_SUFFIX}"
        if sizes not in self._constants:
            self.constant(sizes, np.full(parts, width, dtype=np.int64))
        outputs = tuple(f"{name}.{part}" for part in range(parts))
        for output in outputs:
            self._claim(output)
        self._add_node("Split", (x, sizes), outputs, name, {"axis": axis})
        return outputs

    def pixels(self, x: str, name: str, *, start: int = 0, step: int = 1) -> str:
        """Add a Slice of (batch, channels, height, width): every `step`-th row and column from `start` on."""
        bounds = {"from": start, "to": np.iinfo(np.int64).max, "by": step}
        inputs = {f"{key}{value}{_PIXELS_SUFFIX}": [value, value] for key, value in bounds.items()}
        inputs = {f"axes{_PIXELS_SUFFIX}": [2, 3], **inputs}
        for constant, value in inputs.items():
            if constant not in self._constants:
                self.constant(constant, np.array(value, dtype=np.int64))
        axes, starts, ends, steps = inputs
        return self.node("Slice", x, starts, ends, axes, steps, name=name)

    def slice(self, x: str, name: str, start: int, end: int, *, axis: int) -> str:
        """Add a Slice of one axis, from `start` up to `end`."""
        bounds = [f"{value}{_SLICE_SUFFIX}" for value in (start, end, axis)]
        for bound, value in zip(bounds, (start, end, axis), strict=True):
            if bound not in self._constants:
                self.constant(bound, np.array([value], dtype=np.int64))
        return self.node("Slice", x, *bounds, name=name)

    def gemm(self, x: str, name: str, in_features: int, out_features: int) -> str:
        """Add a linear layer with bias of (batch, in_features)."""
        weight = self.weight(f"{name}.weight", (out_features, in_features))
        bias = self.weight(f"{name}.bias", (out_features,))
        return self.node("Gemm", x, weight, bias, name=name, transB=1)

    def classifier(self, x: str, name: str, channels: int, *, num_classes: int) -> str:
        """Add global average pooling of (batch, channels, height, width) and a linear layer."""
        pooled = self.node("GlobalAveragePool", x, name=f"{name}.pool")
        return self.gemm(self.node("Flatten", pooled, name=f"{name}.flatten"), name, channels, num_classes)

    def declare_block(self, tensor: str) -> None:
        """Declare a tensor to be the output of the next primary block."""
        self._blocks.append(tensor)

    def declare_transformer(self) -> None:
        """Declare that the network is a transformer: its weights are initialised as such, and progressivity left out.

        Without it the structure decides, which takes a network whose layers convolve or transform tokens for another.
        """
        self._is_transformer = True

    def finish(
        self,
        output: str,
        *,
        num_outputs: int | tuple[int, ...] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> BuiltNetwork:
        """Return the network, whose output is the float tensor `output`.

        Parameters
        ----------
        output
            Name of a tensor of two axes, or more where `num_outputs` has their sizes.
        num_outputs
            Size of its second axis, left to shape inference where not given; or of all axes behind the batch.
        metadata
            Further entries of the model's metadata.
        """
        return BuiltNetwork(
            name=self._name,
            opset=self._opset,
            inputs=tuple(self._inputs),
            steps=tuple(self._steps),
            constants=MappingProxyType(dict(self._constants)),
            output=output,
            output_sizes=num_outputs if isinstance(num_outputs, tuple) else (num_outputs,),
            metadata=MappingProxyType(
                declared(self._blocks, is_transformer=self._is_transformer, metadata=metadata or {})
            ),
        )

    def model(
        self,
        output: str,
        *,
        num_outputs: int | tuple[int, ...] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> onnx.ModelProto:
        """Return the finished network as ONNX; the parameters are those of :meth:`finish`."""
        return self.finish(output, num_outputs=num_outputs, metadata=metadata).model()

    def _add_input(self, name: str, dtype: npt.DTypeLike, sample_shape: tuple[int, ...]) -> str:
        self._claim(name)
        self._inputs.append(GraphInput(name=name, dtype=np.dtype(dtype), shape=(BATCH, *sample_shape)))
        return name

    def _add_node(
        self, op_type: str, inputs: Sequence[str], outputs: tuple[str, ...], name: str, attributes: Attributes
    ) -> None:
        self._steps.append(make_node(op_type, self._opset, tuple(inputs), outputs, name, attributes))

    def _claim(self, name: str) -> None:
        if name in self._names:
            raise SettingsError(f"graph {self._name!r}: the name {name!r} is given to two tensors; each needs its own")
        self._names.add(name)


def weight_shapes(model: onnx.ModelProto) -> Mapping[str, tuple[int, ...]]:
    """Return the shape of each weight (parameters and running statistics) of a model from :class:`GraphBuilder`."""
    shapes = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name.endswith(SHAPE_SUFFIX)}
    return MappingProxyType(
        {
            node.output[0]: tuple(numpy_helper.to_array(shapes[node.input[0]]).tolist())
            for node in model.graph.node
            if node.op_type == "ConstantOfShape" and node.input[0] in shapes
        }
    )


def fill_weights(model: onnx.ModelProto, values: Mapping[str, npt.NDArray[np.float32]]) -> onnx.ModelProto:
    """Return a copy of a model from :class:`GraphBuilder` in which weights are initialisers with data.

    Parameters
    ----------
    model
        Left as it is.
    values
        An array for each weight that :func:`weight_shapes` names; further entries are not accepted.

    Raises
    ------
    SettingsError
        If a weight is missing, unknown, or has another shape.
    """
    shapes = weight_shapes(model)
    for name in sorted(set(shapes) ^ set(values)):
        raise SettingsError(f"weight {name!r} {'has no value' if name in shapes else 'does not exist'}")
    for name, shape in shapes.items():
        if values[name].shape != shape:
            raise SettingsError(f"weight {name!r} has shape {shape}, but the value given has {values[name].shape}")
    filled = onnx.ModelProto()
    filled.CopyFrom(model)
    nodes = [node for node in model.graph.node if node.output[0] not in shapes]
    constants = [tensor for tensor in model.graph.initializer if not tensor.name.endswith(SHAPE_SUFFIX)]
    del filled.graph.node[:], filled.graph.initializer[:]
    filled.graph.node.extend(nodes)
    filled.graph.initializer.extend(constants)
    filled.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(values[name], np.float32), name) for name in shapes
    )
    return filled
