"""An ONNX network as a torch module with parameters: train it and write it back."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import nn

from aznas_onnx.convert import Program, Step, compile_program
from aznas_onnx.convert.attributes import number
from aznas_onnx.errors import ModelError
from aznas_onnx.export.trainable_graph import read_weight_graph
from aznas_onnx.graph import Graph, Node
from aznas_onnx.graph.meaning.constant_roles import ConstantRole, roles

__all__ = ["TrainableNetwork"]

_STATISTICS = (ConstantRole.NORM_MEAN, ConstantRole.NORM_VARIANCE)
_MOMENTUM = 0.1  # torch's default for running statistics


class TrainableNetwork(nn.Module):
    """A network from an ONNX file, to be trained like any other torch module.

    Weights, biases, and normalisation and position parameters are :class:`torch.nn.Parameter`; running means and
    variances are buffers. Both have the names and values of the file, so a state dict and the file agree. In training
    mode BatchNormalization uses the statistics of the batch and updates the running ones.

    Parameters
    ----------
    source
        The file, or a ModelProto, with one input and one output.

    Raises
    ------
    ModelError
        If the model cannot be read, has several inputs or outputs, or no weights.

    Examples
    --------
    >>> network = TrainableNetwork("winners/1-trial-204/model.onnx")         # doctest: +SKIP
    >>> optimizer = torch.optim.SGD(network.parameters(), lr=0.1)            # doctest: +SKIP
    """

    def __init__(self, source: str | os.PathLike[str] | onnx.ModelProto) -> None:
        super().__init__()
        self._source = read_weight_graph(source)
        self._programs: dict[tuple[int, torch.device, torch.dtype], Program] = {}
        graph, _ = self._source.at(self._source.inputs.declared_batch)
        if len(graph.inputs) != 1 or len(graph.outputs) != 1:
            raise ModelError(
                f"{graph.name}: the network has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs; "
                "one of each is needed to train it here"
            )
        self._names: dict[str, str] = {}
        for name, role in roles(graph).items():
            if role.is_trainable or role in _STATISTICS:
                self._names[name] = self._add(name, _read(graph, name), is_parameter=role.is_trainable)
        if not any(True for _ in self.parameters()):
            raise ModelError(
                f"{graph.name}: the network has no weights to train; one that a space has just built gets them from "
                "aznas_onnx.export.initialised"
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the network's output for a batch, shape (batch, ...)."""
        dtype = x.dtype if x.is_floating_point() else next(self.parameters()).dtype  # of token ids
        key = (len(x), x.device, dtype)
        if key not in self._programs:
            self._programs[key] = self._compile(*key)
        program = self._programs[key]
        result: torch.Tensor
        (result,) = program.run({**self._weights(), program.inputs[0]: x}).values()
        return result

    def to_onnx(self, template: str | os.PathLike[str] | onnx.ModelProto) -> onnx.ModelProto:
        """Return a copy of the model that this network was read from, with the present weights.

        Parameters
        ----------
        template
            That model.
        """
        model = onnx.ModelProto()
        model.CopyFrom(template if isinstance(template, onnx.ModelProto) else onnx.load(Path(template)))
        state = {name: tensor.detach().cpu().numpy() for name, tensor in self._weights().items()}
        for tensor in model.graph.initializer:
            if tensor.name in state:
                tensor.CopyFrom(numpy_helper.from_array(state[tensor.name], tensor.name))
        return model

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_programs": {}}  # they reference the tensors of this module; a copy compiles its own

    def _weights(self) -> Mapping[str, torch.Tensor]:
        """Return parameters and buffers by their name in the graph; moving the module replaces the tensors."""
        state = dict(self._named_tensors())
        return {name: state[key] for name, key in self._names.items()}

    def _named_tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        yield from self.named_parameters(remove_duplicate=False)
        yield from self.named_buffers(remove_duplicate=False)

    def _add(self, name: str, value: torch.Tensor, *, is_parameter: bool) -> str:
        """Register a tensor; return its key in the state dict.

        That is its name in the file, dots making submodules as they do in torch, unless the name of another tensor or
        of a method stands in the way.
        """
        *path, leaf = name.split(".")
        if not all((*path, leaf)) or not self._is_free(path, leaf):
            path, leaf = [], name.replace(".", "_")
            while hasattr(self, leaf):
                leaf += "_"
        module: nn.Module = self
        for part in path:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        if is_parameter:
            module.register_parameter(leaf, nn.Parameter(value))
        else:
            module.register_buffer(leaf, value)
        return ".".join((*path, leaf))

    def _is_free(self, path: list[str], leaf: str) -> bool:
        module: nn.Module = self
        for part in path:
            if part in module._modules:
                module = module.get_submodule(part)
            else:
                return not hasattr(module, part)
        return not hasattr(module, leaf)

    def _compile(self, batch_size: int, device: torch.device, dtype: torch.dtype) -> Program:
        graph, infos = self._source.at(batch_size)
        program = compile_program(graph, infos, self._weights(), device=device, dtype=dtype)
        nodes = {node.name: node for node in graph.nodes}
        steps = tuple(self._with_statistics(step, nodes[step.node]) for step in program.steps)
        return replace(program, steps=steps)

    def _with_statistics(self, step: Step, node: Node) -> Step:
        """Set BatchNormalization to the module's mode."""
        if not node.is_op("BatchNormalization"):
            return step
        epsilon = number(node, "epsilon", 1e-5)
        return Step(node=step.node, run=partial(self._batch_norm, epsilon), inputs=node.inputs, outputs=step.outputs)

    def _batch_norm(
        self,
        epsilon: float,
        x: torch.Tensor,
        scale: torch.Tensor,
        shift: torch.Tensor,
        mean: torch.Tensor,
        variance: torch.Tensor,
    ) -> torch.Tensor:
        return torch.batch_norm(x, scale, shift, mean, variance, self.training, _MOMENTUM, epsilon, True)


def _read(graph: Graph, name: str) -> torch.Tensor:
    constant = graph.constants[name]
    if constant.read is None:
        raise ModelError(f"{graph.name}: weight {name!r} has a shape but no data; export it with weights first")
    return torch.from_numpy(constant.read().copy())
