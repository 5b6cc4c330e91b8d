"""A model's graph with separate weights for each layer, for training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aznas_onnx.demand import check_copies
from aznas_onnx.graph import Graph, InputPlan, Limits, TensorInfos
from aznas_onnx.graph.files.deserialize import deserialize
from aznas_onnx.graph.files.inputs import plan_inputs
from aznas_onnx.graph.files.load import Document, load, source_name
from aznas_onnx.graph.files.precision import to_float32
from aznas_onnx.graph.rewrite.passes import decompose
from aznas_onnx.graph.shapes.interpret import interpret

__all__ = ["WeightGraph", "read_weight_graph"]

_SAMPLES = (np.float32, np.int64)  # images and the like, and token ids
_COPIES = 3  # of all weights: as read, as parameters, as they are written


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeightGraph:
    """A graph without folded computations on weights.

    :func:`aznas_onnx.graph.prepare` folds computations on constants: a relative position table that is gathered into a
    bias becomes that bias. Training would then train each entry of the bias separately.

    - `graph`: Lowered, in float32.
    - `inputs`: Shapes of the inputs at any batch size.
    """

    graph: Graph
    inputs: InputPlan

    def __deepcopy__(self, memo: object) -> WeightGraph:
        """Return the graph itself: it is immutable, and copies of a module share it."""
        return self

    def at(self, batch_size: int) -> tuple[Graph, TensorInfos]:
        """Return the graph and the infos for a batch size."""
        return interpret(self.graph, batch_size, self.inputs.shapes(batch_size), Limits())


def read_weight_graph(source: Document) -> WeightGraph:
    """Read a model; raise ModelError if it cannot be read."""
    limits = Limits()
    proto, folder, nodes, *_ = load(source, limits)
    graph, _ = to_float32(deserialize(proto, folder, source_name(source), limits, nodes))
    graph, _ = decompose(graph)
    check_copies(graph, _COPIES, f"{source_name(source)}: reading its weights")
    return WeightGraph(graph=graph, inputs=plan_inputs(graph, {}, sample_dtypes=_SAMPLES))
