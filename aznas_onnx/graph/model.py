"""The result of `prepare`: a checked model in canonical form."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from aznas_onnx.graph.files.inputs import InputPlan
from aznas_onnx.graph.ir.graph import Graph
from aznas_onnx.graph.ir.tensor_info import TensorInfos
from aznas_onnx.graph.meaning.channel_axes import ChannelAxes

__all__ = ["Model"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """A canonical graph with its tensor infos at one batch size.

    Attributes
    ----------
    name
        The file's name without its folder and ending, or the graph's own name.
    path
        The file, or None for a model built in memory.
    graph
        The canonical graph.
    infos
        Shapes, dtypes and small constants at `infos.batch_size`.
    inputs
        The input with the samples, and the shapes of all inputs at any batch size.
    layout
        Channel and batch axes of the activations, where known.
    changes
        The changes of the graph, in words for the user ("normalisation restored after 52 convolutions").
    warnings
        Warnings for the user.
    fixed_batch
        The reason why the model runs at its own batch size only; empty where it runs at any.
    """

    name: str
    path: Path | None
    graph: Graph
    infos: TensorInfos
    inputs: InputPlan
    layout: ChannelAxes = field(default_factory=ChannelAxes)
    changes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    fixed_batch: str = ""

    def keeps_batch(self, tensor: str) -> bool:
        """Whether samples are separate in a tensor: the batch has its own axis, or there is no batch."""
        shape, axis = self.infos[tensor].shape or (), self.layout.batch_axes.get(tensor, 0)
        return not self.inputs.has_batch or (axis < len(shape) and shape[axis] == self.infos.batch_size)
