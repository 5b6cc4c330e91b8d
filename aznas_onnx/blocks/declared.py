"""Blocks that someone named: the model's metadata, or the user with ``--blocks``."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from aznas_onnx.errors import SettingsError, UnknownNameError
from aznas_onnx.graph.ir import Graph, Node
from aznas_onnx.graph.model import Model

__all__ = ["Declared", "declared", "matched"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A block that was asked for."""

    name: str
    output: str
    reason: str


def declared(model: Model, names: Sequence[str]) -> list[Declared]:
    """Return the blocks that the model's metadata names, in its order, repetitions included."""
    known = model.graph.producers
    for name in names:
        if name not in known:
            raise UnknownNameError(
                f"{model.name}: its metadata declares block {name!r}, but no node makes that tensor{_near(name, known)}"
            )
    counts: dict[str, int] = {}
    found = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        label = name if counts[name] == 1 else f"{name} ({counts[name]})"
        found.append(Declared(name=label, output=name, reason="declared by the model's metadata"))
    return found


def matched(model: Model, patterns: Sequence[str]) -> list[Declared]:
    """Return the blocks that patterns ask for, in dataflow order.

    A pattern is a glob over modules (``layer?.?``, ``/layer1/layer1.0/``), nodes, and tensors. For a node, the
    outermost name that the pattern matches, among its modules, its own name and its outputs, says which block it
    belongs to; the block's output is the last of its tensors that something outside of it reads.
    """
    graph = model.graph
    groups: dict[str, list[Node]] = {}
    reasons: dict[str, str] = {}
    names = {id(node): list(_names(node, graph)) for node in graph.nodes}
    for pattern in patterns:
        hits = 0
        for node in graph.nodes:
            key = next((name for name in names[id(node)] if fnmatchcase(name, pattern)), None)
            if key is not None:
                hits += 1
                groups.setdefault(key, []).append(node)
                reasons.setdefault(key, f"matches --blocks {pattern!r}")
        if not hits:
            every = [name for found in names.values() for name in found]
            raise UnknownNameError(
                f"{model.name}: --blocks {pattern!r} matches no module, node or tensor{_near(pattern, every)}"
            )
    order = {id(node): at for at, node in enumerate(graph.nodes)}
    found: list[tuple[int, Declared]] = []
    for key, nodes in groups.items():
        last = _last_leaving(graph, nodes)
        _check(model, key, last)
        place = order[id(graph.producers[last])]
        found.append((place, Declared(name=key.strip("/"), output=last, reason=reasons[key])))
    found.sort(key=lambda item: item[0])
    return _distinct(block for _, block in found)


def _names(node: Node, graph: Graph) -> Iterator[str]:
    """Yield the names that a pattern may match for a node, outermost module first, its tensors last."""
    seen = dict.fromkeys(_modules(node.name, "/"))
    for name in node.inputs:
        constant = graph.constants.get(name)
        if constant is not None and constant.is_float and len(graph.consumers[name]) == 1:
            for source in sorted(constant.sources or {name}):
                seen.update(dict.fromkeys(_modules(source, ".")))
    yield from sorted(seen, key=lambda name: (name.count("/") + name.count("."), len(name)))
    yield node.name
    yield from (name for name in node.outputs if name)


def _modules(name: str, separator: str) -> Iterator[str]:
    """Yield the modules that a hierarchical name lies in, in the two ways in which users write them."""
    at = name.find(separator, 1)
    while at != -1:
        if separator == "/":
            yield name[: at + 1]
            yield name[:at].rpartition("/")[2]
        else:
            yield name[:at]
        at = name.find(separator, at + 1)


def _last_leaving(graph: Graph, nodes: Sequence[Node]) -> str:
    """Return the last tensor of a group that something outside of it reads."""
    inside = {id(node) for node in nodes}
    for node in reversed(nodes):
        for name in node.outputs:
            readers = graph.consumers.get(name, ())
            if name in graph.outputs or any(id(reader) not in inside for reader in readers):
                return name
    return nodes[-1].outputs[0]


def _check(model: Model, key: str, tensor: str) -> None:
    fact = model.facts[tensor]
    if fact.dtype.kind != "f" or fact.shape is None or len(fact.shape) < 2 or fact.value is not None:
        raise SettingsError(
            f"{model.name}: --blocks matches {key!r}, whose output {tensor!r} is no feature map "
            f"(shape {fact.shape}, {fact.dtype.name}); name something that makes a float tensor of rank 2 or more"
        )


def _distinct(blocks: Iterable[Declared]) -> list[Declared]:
    """Drop a group whose output another group has too, as the module inside of a module does."""
    return list({block.output: block for block in blocks}.values())


def _near(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(dict.fromkeys(known)), n=3, cutoff=0.4)
    return f"; near are {', '.join(map(repr, close))}" if close else ""
