"""Input and output of a converter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from aznas_onnx.convert.dtypes import carrier, is_float, to_tensor
from aznas_onnx.convert.sliding_window import Window
from aznas_onnx.errors import UnsupportedOperatorError
from aznas_onnx.graph.ir.graph import Graph, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfo, TensorInfos

__all__ = ["Call", "Context", "Converter", "unsupported"]


class Call(NamedTuple):
    """A node as a torch function: `run` takes the tensors named by `inputs` (None where a name is empty)."""

    run: Callable[..., Any]
    inputs: tuple[str, ...]


def unsupported(node: Node, found: str, remedy: str) -> UnsupportedOperatorError:
    """Return the error for a node that cannot be converted: the node, its value, and the accepted values."""
    return UnsupportedOperatorError(f"node {node.name!r}: operator {node.operator}-{node.version} {found}; {remedy}")


class Context:
    """The context of a node for its converter.

    Attributes
    ----------
    device, dtype
        Device of the program, and the dtype of its floats.
    read
        Names of the tensors that later nodes read, or that are outputs of the graph.
    training
        Whether BatchNormalization uses the statistics of the batch.
    notes
        Notes for the user on the conversion of nodes, in order.
    windows
        The windows read so far, by their attributes and sizes; nodes with equal attributes share them.
    """

    __slots__ = (
        "_graph",
        "_infos",
        "_initialised",
        "_loaded",
        "device",
        "dtype",
        "notes",
        "read",
        "training",
        "windows",
    )

    def __init__(
        self,
        graph: Graph,
        infos: TensorInfos,
        initialised: frozenset[str],
        *,
        device: torch.device,
        dtype: torch.dtype,
        training: bool,
    ) -> None:
        self._graph = graph
        self._infos = infos
        self._initialised = initialised
        self._loaded: dict[str, npt.NDArray[Any] | None] = {}
        self.device = device
        self.dtype = dtype
        self.training = training
        self.read = set(graph.outputs)
        self.notes: dict[str, None] = {}
        self.windows: dict[tuple[object, ...], Window] = {}

    def in_float32_on_cpu(self) -> Context:
        """Return the same context for a program in single precision on the CPU."""
        return Context(
            self._graph,
            self._infos,
            self._initialised,
            device=torch.device("cpu"),
            dtype=torch.float32,
            training=self.training,
        )

    def is_read(self, name: str) -> bool:
        """Whether an output of a node is of use: a later node reads it, or the graph hands it out."""
        return name in self.read

    # ---- shapes and types -------------------------------------------------------------------------------------
    def known_shape(self, name: str) -> tuple[int, ...] | None:
        """Return the shape of a tensor, or None where it depends on data."""
        info = self._infos.get(name)
        if info is not None:
            return info.shape
        constant = self._graph.constants.get(name)
        return None if constant is None else constant.shape

    def shape(self, node: Node, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor that `node` needs before it runs."""
        shape = self.known_shape(name)
        if shape is None:
            found = f"needs the shape of {name!r}, which depends on data"
            raise unsupported(node, found, "shapes must be known before the model runs")
        return shape

    def rank(self, node: Node, name: str) -> int:
        """Return the number of axes of a tensor."""
        return len(self.shape(node, name))

    def numpy_dtype(self, name: str) -> np.dtype[Any]:
        """Return the dtype that the graph gives a tensor."""
        info = self._infos.get(name)
        return self._graph.constants[name].dtype if info is None else info.dtype

    def is_float(self, name: str) -> bool:
        """Whether the graph gives a tensor a floating-point dtype."""
        return is_float(self.numpy_dtype(name))

    def carrier(self, node: Node, dtype: np.dtype[Any]) -> torch.dtype:
        """Return the torch dtype that carries `dtype`."""
        found = carrier(dtype, self.dtype)
        if found is None:
            raise unsupported(node, f"works on {dtype}", "tensors of numbers and booleans are supported")
        return found

    def info(self, name: str) -> TensorInfo:
        """Return the info of a tensor; an initialised weight has no value."""
        return TensorInfo(self.known_shape(name), self.numpy_dtype(name), self.known(name))

    def is_weight(self, name: str) -> bool:
        """Whether a tensor is a constant whose values are initialised anew for each seed."""
        return name in self._initialised and name in self._graph.constants

    # ---- values -----------------------------------------------------------------------------------------------
    def known(self, name: str) -> npt.NDArray[Any] | None:
        """Return the value of a tensor that is equal in every run, else None; initialised weights have none."""
        if not name or name in self._initialised:
            return None
        value = self._infos.value(name)
        if value is not None:
            return value
        if name not in self._loaded:
            constant = self._graph.constants.get(name)
            self._loaded[name] = None if constant is None or constant.read is None else constant.read()
        return self._loaded[name]

    def ints(self, node: Node, index: int, what: str) -> tuple[int, ...] | None:
        """Return input `index` as Python integers; None where it is omitted.

        Raises UnsupportedOperatorError if the values depend on data. `what` names them in the message: "the axes".
        """
        name = node.input(index)
        if not name:
            return None
        value = self.known(name)
        if value is None:
            found = f"takes {what} from {name!r}, which depends on data"
            raise unsupported(node, found, f"{what} must be known before the model runs")
        return tuple(value.reshape(-1).tolist())

    def scalar(self, name: str) -> float | None:
        """Return a tensor of one known element as a Python number, else None."""
        value = self.known(name)
        return value.reshape(-1).tolist()[0] if value is not None and value.size == 1 else None

    def tensor(self, array: npt.NDArray[Any]) -> torch.Tensor:
        """Return a constant made by a converter, on the program's device and in its dtypes."""
        tensor = to_tensor(array, self.device, self.dtype)
        assert tensor is not None, "converters make numbers and booleans only"
        return tensor


Converter: TypeAlias = Callable[[Node, Context], Call]
