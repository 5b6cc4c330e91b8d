"""The result of `prepare`: a checked model in canonical form."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType

from aznas_onnx.graph.files.inputs import InputPlan
from aznas_onnx.graph.files.interface import Interface
from aznas_onnx.graph.ir.graph import Constant, Graph, LookUp
from aznas_onnx.graph.ir.near_miss import NearMiss
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
    source
        How results call it: the path as given, or the graph's own name.
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
    declared_blocks
        Outputs of the primary blocks that the file's metadata declares, in order; empty where it declares none.
    near_misses
        Patterns that were nearly recognised, and layers after which no normalisation was restored, with the reason.
    data_files
        Files in the folder of the model's own that hold its external data, as it names them.
    interface
        What the whole file takes and returns, as it declares it; empty for a network that was built in memory.
    """

    name: str
    source: str
    graph: Graph
    infos: TensorInfos
    inputs: InputPlan
    layout: ChannelAxes = field(default_factory=ChannelAxes)
    changes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    fixed_batch: str = ""
    declared_blocks: tuple[str, ...] = ()
    near_misses: tuple[NearMiss, ...] = ()
    data_files: tuple[str, ...] = ()
    interface: Interface = field(default_factory=Interface)

    def keeps_batch(self, tensor: str) -> bool:
        """Whether samples are separate in a tensor: the batch has its own axis, or there is no batch."""
        shape, axis = self.infos[tensor].shape or (), self.layout.batch_axes.get(tensor, 0)
        return not self.inputs.has_batch or (axis < len(shape) and shape[axis] == self.infos.batch_size)

    def without_data(self) -> Model:
        """Return the model without the data of its constants, which keeps the whole file in memory."""
        inputs = tuple(
            replace(graph_input, replaces=graph_input.replaces and _bare_look_up(graph_input.replaces))
            for graph_input in self.graph.inputs
        )
        constants = {name: _bare(constant) for name, constant in self.graph.constants.items()}
        look_ups = {name: _bare_look_up(one) for name, one in self.inputs.look_ups.items()}
        return replace(
            self,
            graph=replace(self.graph, inputs=inputs, constants=MappingProxyType(constants)),
            inputs=replace(self.inputs, look_ups=MappingProxyType(look_ups)),
        )


def _bare(constant: Constant) -> Constant:
    return replace(constant, read=None, origin=None)


def _bare_look_up(look_up: LookUp) -> LookUp:
    return replace(look_up, constant=_bare(look_up.constant))
