"""Converters of onnx2torch, for operators without one of ours.

Importing onnx2torch takes over a second, so it happens when such an operator is met. A domain other than ONNX's can
only have converters that the user has registered, by then with an onnx2torch that is loaded.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aznas_onnx.caches import cached
from aznas_onnx.convert.context import Call, Context, Converter, unsupported
from aznas_onnx.convert.dtypes import to_tensor
from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.graph.shapes.shape_inference import node_proto

__all__ = ["via_onnx2torch"]

_REGISTRY = "onnx2torch.node_converters.registry"


def via_onnx2torch(op_type: str, version: int, domain: str = "", *, load: bool = True) -> Converter | None:
    """Return a converter that calls onnx2torch's for an operator; None where it has none.

    - `version`: Version of the operator, as ONNX's schemas number it.
    - `load`: Whether to import onnx2torch if the process has not; without it, its registry is empty.
    """
    if not load and _REGISTRY not in sys.modules:
        return None
    from onnx2torch.node_converters.registry import get_converter

    try:
        return _adapted(get_converter(op_type, version, domain))
    except NotImplementedError:
        return None


@cached(256, "needed for every node; a registered converter is adapted once")
def _adapted(registered: Callable[[Any, Any], Any]) -> Converter:
    """Return a converter that calls onnx2torch's, whose module reads initialised weights as further operands."""

    def convert(node: Node, context: Context) -> Call:
        from onnx2torch.onnx_node import OnnxNode

        initializers = _initializers(node, context)
        graph = SimpleNamespace(initializers=initializers, value_as_node_output=_no_producer)
        try:
            result = registered(OnnxNode(node_proto(node), unique_name=node.name), graph)
        except NotImplementedError as error:
            reason = f"is used in a way that onnx2torch does not convert ({error})"
            raise unsupported(node, reason, "docs/operators.md says what is supported") from error
        module: torch.nn.Module = result.torch_module
        weights = _replaced_weights(node, module, initializers)
        module.eval().requires_grad_(False).to(context.device, context.dtype)
        operands = tuple(result.onnx_mapping.inputs)
        return Call(_Run(module, operands, tuple(weights)), (*operands, *weights.values()))

    return convert


class _Initializer:
    """A constant operand in the interface of onnx2torch's converters."""

    def __init__(self, tensor: torch.Tensor, *, is_weight: bool) -> None:
        self.tensor = tensor
        self.is_weight = is_weight
        self.was_read = False

    def to_torch(self) -> torch.Tensor:
        self.was_read = True
        return self.tensor

    def to_numpy(self) -> npt.NDArray[Any]:
        return np.asarray(self.to_torch().cpu())


def _initializers(node: Node, context: Context) -> dict[str, _Initializer]:
    """Return the constant inputs of a node; those that are initialised anew stand as tensors without values."""
    found: dict[str, _Initializer] = {}
    for name in filter(None, node.inputs):
        value = context.known(name)
        tensor = None if value is None else to_tensor(value, context.device, context.dtype)
        if tensor is not None:
            found[name] = _Initializer(tensor, is_weight=False)
        elif context.is_weight(name):
            found[name] = _Initializer(
                torch.empty(context.shape(node, name), device=context.device, dtype=context.dtype), is_weight=True
            )
    return found


def _no_producer(name: str) -> Any:
    raise KeyError(name)


def _replaced_weights(node: Node, module: torch.nn.Module, initializers: Mapping[str, _Initializer]) -> dict[str, str]:
    """Return which weight each parameter of a module is, for those that it read without their values; free these."""
    blanks = {one.tensor.data_ptr(): name for name, one in initializers.items() if one.is_weight and one.was_read}
    found: dict[str, str] = {}
    for place, tensor in (*module.named_parameters(), *module.named_buffers()):
        name = blanks.get(tensor.data_ptr())
        if name is not None and tensor.shape == initializers[name].tensor.shape:
            found[place] = name
            tensor.data = tensor.data.new_empty(0)
    lost = sorted({*blanks.values()} - {*found.values()})
    if lost:
        reason = f"has a converter that computes with the weight {lost[0]!r}, whose values change with the seed"
        raise unsupported(node, reason, "let the module take it as an input, or keep it as a parameter")
    return found


class _Run:
    """The function of a step: a module with its operands, and behind them the weights that take parameters' places."""

    def __init__(self, module: torch.nn.Module, operands: Sequence[str], places: Sequence[str]) -> None:
        self._module = module
        self._places = places
        self._count = len(operands)
        self._positional = operands.index("") if "" in operands else len(operands)
        names = list(inspect.signature(module.forward).parameters) if "" in operands else []
        self._named = [(i, names[i]) for i in range(self._positional, self._count) if operands[i]]

    def __call__(self, *tensors: Any) -> Any:
        """Return the module's outputs for the tensors."""
        named = {name: tensors[index] for index, name in self._named}
        weights = dict(zip(self._places, tensors[self._count :], strict=True))
        return torch.func.functional_call(self._module, weights, tensors[: self._positional], named)
