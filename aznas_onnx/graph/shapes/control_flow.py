"""Replace static If, Loop and Scan by the nodes that run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from aznas_onnx.errors import ModelError, UnsupportedOperatorError
from aznas_onnx.graph.ir.graph import Constant, Graph, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfo
from aznas_onnx.limits import copy
from aznas_onnx.operators.operator_record import Attributes
from aznas_onnx.operators.sets import KEEPS_VALUES

__all__ = ["Resolution", "captured", "known_scalar", "resolve", "stack"]


_OPERANDS = 16  # average limit per node, where a loop is unrolled to the maximum number of nodes


@dataclass(slots=True)
class Resolution:
    """The straight-line replacement of a control-flow node."""

    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Constant] = field(default_factory=dict)


def resolve(node: Node, infos: Mapping[str, TensorInfo], max_nodes: int) -> Iterator[Resolution]:
    """Yield the nodes that a control-flow node runs, a loop's iteration by iteration.

    The condition of a loop follows from an iteration: `infos` must contain its outputs before the next is requested.

    Raises UnsupportedOperatorError if the branch or the number of iterations depends on data, or unrolling gives more
    than `max_nodes`.
    """
    if node.op_type == "If":
        yield _resolve_if(node, infos)
        return
    body: Any = node.attributes["body"]
    max_trips = min(max_nodes // max(1, len(body.nodes)), _OPERANDS * max_nodes // _operands(body))
    if node.op_type == "Loop":
        yield from _resolve_loop(node, infos, max_trips)
    else:
        yield _resolve_scan(node, infos, max_trips)


def _operands(body: Graph) -> int:
    """Return how many tensors a turn of a body names, those of bodies inside included; a constant is one and a copy."""
    inside = sum(
        _operands(value) for node in body.nodes for value in node.attributes.values() if isinstance(value, Graph)
    )
    named = sum(len(node.inputs) + len(node.outputs) for node in body.nodes)
    return inside + named + 4 * len(body.constants) + len(body.inputs) + len(body.outputs)


def _text_bytes(body: Graph, prefix: str) -> int:
    """Return the length of all names that one turn of a body adds."""
    names = [text for node in body.nodes for text in (node.name, *node.outputs)]
    return sum(len(prefix) + len(text) for text in (*names, *body.constants, *body.outputs))


def _refuse(node: Node, what: str) -> UnsupportedOperatorError:
    return UnsupportedOperatorError(f"node {node.name!r} ({node.operator}): {what} depends on data")


def _resolve_if(node: Node, infos: Mapping[str, TensorInfo]) -> Resolution:
    condition = known_scalar(infos, node.inputs[0])
    if condition is None:
        raise _refuse(node, "its condition")
    branch: Any = node.attributes["then_branch" if bool(condition) else "else_branch"]
    _check_arity(node, branch, inputs=0, outputs=len(node.outputs))
    result = Resolution()
    outputs = _splice(result, node.name, branch, {}, f"{node.name}/")
    _rename_outputs(result, node, outputs)
    return result


def _resolve_loop(node: Node, infos: Mapping[str, TensorInfo], max_trips: int) -> Iterator[Resolution]:
    """Yield iterations while the condition of the last one is known to be true."""
    body: Any = node.attributes["body"]
    states = list(node.inputs[2:])
    _check_arity(node, body, inputs=2 + len(states), outputs=1 + len(node.outputs))
    trips = _trips(node, infos, max_trips, ends_early=not _condition_is_constant(body))
    goes_on = _condition(node, infos, node.input(1)) if node.input(1) else True
    scans: list[list[str]] = [[] for _ in range(len(body.outputs) - 1 - len(states))]
    copied_bytes = _text_bytes(body, node.name)
    iteration = 0
    while goes_on and iteration < trips:
        if iteration == max_trips:
            raise UnsupportedOperatorError(
                f"node {node.name!r} ({node.operator}) runs more than {max_trips:,} iterations, "
                "and no more of this size are unrolled"
            )
        copy(node, copied_bytes)
        part = Resolution()
        counter, flag = f"{node.name}/{iteration}/counter", f"{node.name}/{iteration}/condition"
        part.constants[counter] = Constant.of(np.array(iteration, dtype=np.int64))
        part.constants[flag] = Constant.of(np.array(True))
        bound = dict(zip((value.name for value in body.inputs), [counter, flag, *states], strict=True))
        outputs = _splice(part, node.name, body, bound, f"{node.name}/{iteration}/")
        yield part
        goes_on = _condition(node, infos, outputs[0])
        states = outputs[1 : 1 + len(states)]
        for collected, output in zip(scans, outputs[1 + len(states) :], strict=True):
            collected.append(output)
        iteration += 1
    last = Resolution()
    stacked = [stack(last, node, index, names, 0) for index, names in enumerate(scans)]
    _rename_outputs(last, node, [*states, *stacked])
    yield last


def _trips(node: Node, infos: Mapping[str, TensorInfo], max_trips: int, *, ends_early: bool) -> float:
    """Return the maximal iterations of a loop, infinite without a bound; its condition can end it early."""
    if not node.input(0):
        if not ends_early:
            raise UnsupportedOperatorError(f"node {node.name!r} ({node.operator}) never ends")
        return math.inf
    trips = known_scalar(infos, node.input(0))
    if trips is None:
        raise _refuse(node, "the number of iterations")
    if not ends_early:
        _check_trips(node, int(trips), max_trips)
    return int(trips)


def _condition(node: Node, infos: Mapping[str, TensorInfo], name: str) -> bool:
    known = known_scalar(infos, name)
    if known is None:
        raise _refuse(node, "the number of iterations")
    return bool(known)


def _check_arity(node: Node, body: Graph, *, inputs: int, outputs: int) -> None:
    """Check that a branch or body takes and gives as many values as the node around it."""
    if len(body.inputs) != inputs or len(body.outputs) != outputs:
        raise ModelError(
            f"node {node.name!r} ({node.operator}) has a body with {len(body.inputs)} inputs and "
            f"{len(body.outputs)} outputs, but {inputs} and {outputs} are needed"
        )


def _check_trips(node: Node, trips: int, max_trips: int) -> None:
    if trips > max_trips:
        raise UnsupportedOperatorError(
            f"node {node.name!r} ({node.operator}) runs {trips:,} iterations; "
            f"at most {max_trips:,} of this size are unrolled; export the model with fewer, or without the loop"
        )


def _condition_is_constant(body: Graph) -> bool:
    """Whether a loop's body passes its condition on unchanged or sets it to true."""
    name = body.outputs[0]
    producers = body.producers
    while name in producers and producers[name] in KEEPS_VALUES:
        name = producers[name].inputs[0]
    if name == body.inputs[1].name:
        return True
    constant = body.constants.get(name)
    return constant is not None and constant.read is not None and constant.elements == 1 and bool(constant.read().all())


def _resolve_scan(node: Node, infos: Mapping[str, TensorInfo], max_trips: int) -> Resolution:
    body: Any = node.attributes["body"]
    attributes: Attributes = node.attributes
    if node.version < 9:
        raise UnsupportedOperatorError(
            f"node {node.name!r}: Scan of opset 8 is not supported; export with opset 9 or newer"
        )
    n_scanned = attributes["num_scan_inputs"]
    n_states = len(node.inputs) - n_scanned
    n_outputs = len(body.outputs) - n_states
    _check_arity(node, body, inputs=len(node.inputs), outputs=len(node.outputs))
    if n_scanned < 1 or n_states < 0 or n_outputs < 0:
        raise ModelError(
            f"node {node.name!r} ({node.operator}) has {len(node.inputs)} inputs, of which it scans {n_scanned}"
        )
    in_axes = _per_tensor(node, "scan_input_axes", n_scanned)
    in_reversed = _per_tensor(node, "scan_input_directions", n_scanned)
    out_axes = _per_tensor(node, "scan_output_axes", n_outputs)
    out_reversed = _per_tensor(node, "scan_output_directions", n_outputs)
    scanned = node.inputs[n_states:]
    shape = infos[scanned[0]].shape
    if shape is None:
        raise _refuse(node, "the number of iterations")
    if not -len(shape) <= in_axes[0] < len(shape):
        raise ModelError(f"node {node.name!r} ({node.operator}) scans axis {in_axes[0]} of a tensor of shape {shape}")
    states = list(node.inputs[:n_states])
    collected: list[list[str]] = [[] for _ in range(n_outputs)]
    result = Resolution()
    trips = shape[in_axes[0]]
    _check_trips(node, trips, max_trips)
    copied_bytes = _text_bytes(body, node.name)
    for iteration in range(trips):
        copy(node, copied_bytes)
        slices = []
        for index, (name, axis, backwards) in enumerate(zip(scanned, in_axes, in_reversed, strict=True)):
            position = trips - 1 - iteration if backwards else iteration
            slices.append(_take(result, node, f"{iteration}/{index}", name, position, axis))
        bound = dict(zip((value.name for value in body.inputs), [*states, *slices], strict=True))
        outputs = _splice(result, node.name, body, bound, f"{node.name}/{iteration}/")
        states = outputs[:n_states]
        for names, output in zip(collected, outputs[n_states:], strict=True):
            names.append(output)
    stacked = [
        stack(result, node, index, names[::-1] if backwards else names, axis)
        for index, (names, axis, backwards) in enumerate(zip(collected, out_axes, out_reversed, strict=True))
    ]
    _rename_outputs(result, node, [*states, *stacked])
    return result


def _per_tensor(node: Node, attribute: str, count: int) -> tuple[int, ...]:
    values: Any = node.attributes.get(attribute, (0,) * count)
    if len(values) != count:
        raise ModelError(f"node {node.name!r} ({node.operator}) has {len(values)} {attribute}, but {count} are needed")
    return tuple(values)


def known_scalar(infos: Mapping[str, TensorInfo], name: str) -> Any:
    """Return the one element of a known tensor, or None where it is not known."""
    if name and name not in infos:
        raise ModelError(f"{name!r} decides on control flow, and nothing makes it")
    value = infos[name].value if name else None
    if value is None:
        return None
    if value.size != 1:
        raise ModelError(f"{name!r} decides on control flow but has {value.size} elements; one was expected")
    return value.reshape(())[()]


def _take(result: Resolution, node: Node, label: str, name: str, position: int, axis: int) -> str:
    index, output = f"{node.name}/{label}/index", f"{node.name}/{label}/slice"
    result.constants[index] = Constant.of(np.array(position, dtype=np.int64))
    result.nodes.append(
        Node(op_type="Gather", version=node.version, name=output, inputs=(name, index), outputs=(output,),
             attributes=MappingProxyType({"axis": axis}))
    )  # fmt: skip
    return output


def stack(result: Resolution, node: Node, index: int, names: list[str], axis: int) -> str:
    """Stack scan outputs along a new axis."""
    if not names:
        raise UnsupportedOperatorError(f"node {node.name!r} ({node.operator}) collects outputs over zero iterations")
    output = f"{node.name}/stacked_{index}"
    axes_name = f"{output}/axis"
    result.constants[axes_name] = Constant.of(np.array([axis], dtype=np.int64))
    lifted = []
    for position, name in enumerate(names):
        expanded = f"{output}/{position}"
        inputs = (name, axes_name)
        result.nodes.append(Node(op_type="Unsqueeze", version=13, name=expanded, inputs=inputs, outputs=(expanded,)))
        lifted.append(expanded)
    result.nodes.append(
        Node(op_type="Concat", version=node.version, name=output, inputs=tuple(lifted), outputs=(output,),
             attributes=MappingProxyType({"axis": axis}))
    )  # fmt: skip
    return output


def captured(node: Node) -> Iterator[str]:
    """Yield the outer tensors that the branches or the body of a node read, once per read."""
    for value in node.attributes.values():
        for body in value if isinstance(value, tuple) else (value,):
            if isinstance(body, Graph):
                yield from _read_from_outside(body)


def _read_from_outside(body: Graph) -> Iterator[str]:
    own = {value.name for value in body.inputs} | set(body.constants)
    for node in body.nodes:
        yield from (name for name in (*node.inputs, *captured(node)) if name and name not in own)
        own.update(node.outputs)
    yield from (name for name in body.outputs if name not in own)


def _splice(result: Resolution, owner: str, body: Graph, bound: Mapping[str, str], prefix: str) -> list[str]:
    """Append a copy of the `body` of node `owner`; its own names get `prefix`, outer names stay."""
    own = {out for node in body.nodes for out in node.outputs}
    held = {name: f"{owner}/body/{name}" for name in body.constants}  # the same in every iteration
    rename = held | {name: prefix + name for name in own} | dict(bound)
    for name, constant in body.constants.items():
        result.constants[held[name]] = replace(constant, sources=frozenset(held.get(s, s) for s in constant.sources))
    result.nodes.extend(_renamed(node, rename, prefix) for node in body.nodes)
    return [rename.get(name, name) for name in body.outputs]


def _renamed(node: Node, rename: Mapping[str, str], prefix: str) -> Node:
    attributes = {
        key: _rename_captured(value, rename) if isinstance(value, Graph) else value
        for key, value in node.attributes.items()
    }
    return replace(
        node,
        name=prefix + node.name,
        inputs=tuple(rename.get(name, name) if name else "" for name in node.inputs),
        outputs=tuple(rename.get(name, name) if name else "" for name in node.outputs),
        attributes=MappingProxyType(attributes),
    )


def _rename_captured(body: Graph, rename: Mapping[str, str]) -> Graph:
    """Rename the outer tensors that a nested body reads; its own names shadow outer ones."""
    own = (
        set(body.constants)
        | {value.name for value in body.inputs}
        | {out for node in body.nodes for out in node.outputs}
    )
    visible = {name: new for name, new in rename.items() if name not in own}
    return replace(
        body,
        nodes=tuple(
            replace(
                node,
                inputs=tuple(visible.get(name, name) if name else "" for name in node.inputs),
                attributes=MappingProxyType(
                    {k: _rename_captured(v, visible) if isinstance(v, Graph) else v for k, v in node.attributes.items()}
                ),
            )
            for node in body.nodes
        ),
        outputs=tuple(visible.get(name, name) for name in body.outputs),
    )


def _rename_outputs(result: Resolution, node: Node, names: list[str]) -> None:
    for name, output in zip(names, node.outputs, strict=False):
        if output:
            result.nodes.append(
                Node(
                    op_type="Identity",
                    version=node.version,
                    name=f"{node.name}/{output}",
                    inputs=(name,),
                    outputs=(output,),
                )
            )
