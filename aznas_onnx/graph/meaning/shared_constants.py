"""Split a constant that is read in several roles into one constant per role.

Before training, scale and shift of a normalisation can both be zero, and an exporter stores them once. Initialised with
one role for both, it would be another network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from itertools import chain, count
from types import MappingProxyType

from aznas_onnx.graph.constants.content import Content, content_of
from aznas_onnx.graph.ir.graph import Constant, Graph
from aznas_onnx.graph.ir.tensor_info import TensorInfos
from aznas_onnx.graph.meaning.constant_roles import ConstantRole, uses

__all__ = ["split_shared_constants"]

_SHARED = (ConstantRole.CONV_WEIGHT, ConstantRole.LINEAR_WEIGHT, ConstantRole.RECURRENT_WEIGHT, ConstantRole.EMBEDDING)


def split_shared_constants(graph: Graph, infos: TensorInfos) -> tuple[Graph, TensorInfos]:
    """Give each role of a constant a separate constant.

    A trained matrix stays one constant in all roles: a tied weight is embedding and output layer.

    - Returns `graph`: The given one where every constant has one role.
    - Returns `infos`: Of that graph.
    """
    reads = Counter(name for node in graph.nodes for name in node.inputs if name in graph.constants)
    shared = {name for name, count in reads.items() if count > 1 and graph.constants[name].is_float}
    if not shared:
        return graph, infos
    played = {(use.node.name, use.index): use.role for use in uses(graph)}
    names: dict[str, dict[ConstantRole, str]] = {}
    taken = {*graph.constants, *infos}
    nodes = list(graph.nodes)
    for position, node in enumerate(nodes):
        inputs = list(node.inputs)
        for index, name in enumerate(inputs):
            if name in shared:
                role = _kind(played.get((node.name, index), ConstantRole.FIXED), graph.constants[name])
                own = names.setdefault(name, {role: name})
                if role not in own:
                    own[role] = _unused(f"{name}/{role.value}", taken)
                    taken.add(own[role])
                inputs[index] = own[role]
        if tuple(inputs) != node.inputs:
            nodes[position] = replace(node, inputs=tuple(inputs))
    added = {new: name for name, own in names.items() for new in own.values() if new != name}
    if not added:
        return graph, infos
    constants = {**graph.constants, **{new: graph.constants[name] for new, name in added.items()}}
    known = {**infos, **{new: infos[name] for new, name in added.items()}}
    separated = replace(graph, nodes=tuple(nodes), constants=MappingProxyType(constants))
    return separated, TensorInfos(known, infos.batch_size)


def _unused(name: str, taken: Collection[str]) -> str:
    return next(other for other in chain([name], (f"{name}.{number}" for number in count(2))) if other not in taken)


def _kind(role: ConstantRole, constant: Constant) -> ConstantRole:
    is_one = role in _SHARED and content_of(constant) is not Content.UNIFORM
    return ConstantRole.LINEAR_WEIGHT if is_one else role
