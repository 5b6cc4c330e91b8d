"""End a model at tensors that the user names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import onnx

from aznas_onnx.errors import SettingsError
from aznas_onnx.graph.ir.toposort import read_by

__all__ = ["cut"]


def cut(model: onnx.ModelProto, names: Sequence[str]) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """End a model at tensors, or at the outputs of nodes.

    - `model`: Stays as it is.
    - `names`: Tensors and nodes of its main graph. Later nodes are removed, and inputs that only these read.

    - Returns `ModelProto`: These tensors are its outputs; their types are left open.
    - Returns `unknown`: Names that this model does not have; another model on the command line can have them, so they
      are no error here.

    Raises SettingsError if it has none of them.
    """
    made = {name: (name,) for node in model.graph.node for name in node.output if name}
    for node in model.graph.node:
        if node.name and any(node.output):
            made.setdefault(node.name, tuple(filter(None, node.output)))
    ends = dict.fromkeys(end for name in names for end in made.get(name, ()))
    unknown = tuple(name for name in names if name not in made)
    if not ends:
        close = difflib.get_close_matches(unknown[0], made, n=3)
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise SettingsError(
            f"--cut-at names {unknown[0]!r}, but no tensor that a node makes, and no node, has that name{hint}"
        )
    shorter = onnx.ModelProto()
    shorter.CopyFrom(model)
    graph = shorter.graph
    nodes = _needed(model.graph, ends)
    del graph.node[:], graph.output[:]
    graph.node.extend(nodes)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in ends)
    read = {name for node in nodes for name in read_by(node)}
    for field in (graph.input, graph.initializer):
        kept = [value for value in field if value.name in read]
        del field[:]
        field.extend(kept)
    return shorter, unknown


def _needed(graph: onnx.GraphProto, ends: Iterable[str]) -> list[onnx.NodeProto]:
    """Return the nodes that tensors depend on, in the file's order, which need not be one in which they can run."""
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    waiting = [makers[name] for name in ends]
    needed = set(waiting)
    while waiting:
        for name in read_by(graph.node[waiting.pop()]):
            index = makers.get(name)
            if index is not None and index not in needed:
                needed.add(index)
                waiting.append(index)
    return [graph.node[index] for index in sorted(needed)]
