"""Blocks named in the model's metadata or by the user with ``--blocks``."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from aznas_onnx.errors import SettingsError, UnknownNameError
from aznas_onnx.graph.ir.graph import Graph, Node
from aznas_onnx.graph.model import Model

__all__ = ["Declared", "declared", "matched"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A named block."""

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
        found.append(Declared(name=label, output=name, reason="the model's metadata declares it"))
    return found


def matched(model: Model, patterns: Sequence[str]) -> list[Declared]:
    """Return the blocks of patterns, in dataflow order.

    A pattern is a glob over modules (``layer?.?``, ``/layer1/layer1.0/``), nodes, and tensors. The outermost matching
    name of a node is its block; the block's output is the last of its tensors that a node outside of it reads.
    """
    graph = model.graph
    groups: dict[str, list[Node]] = {}
    reasons: dict[str, str] = {}
    names = _all_names(model)
    for pattern in patterns:
        hits = 0
        for node in graph.nodes:
            key = next((name for name in names[node.name] if fnmatchcase(name, pattern)), None)
            if key is not None:
                hits += 1
                groups.setdefault(key, []).append(node)
                reasons.setdefault(key, f"--blocks {pattern!r} matches it")
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


def _all_names(model: Model) -> dict[str, list[str]]:
    """Return for each node the names that a pattern can match: its modules, outermost first, itself, its tensors.

    PyTorch's default exporter names weights after modules, but not nodes. An unnamed node that preserves the shape of
    its input (an activation, a sum) belongs to the module of its latest input.
    """
    graph = model.graph
    modules: dict[str, list[str]] = {}
    made_at = {name: at for at, node in enumerate(graph.nodes) for name in node.outputs}
    for node in graph.nodes:
        found = _own_modules(node, graph)
        latest = max((name for name in node.inputs if name in made_at), key=lambda name: made_at[name], default=None)
        if latest is not None:
            before = graph.producers[latest]
            kept = model.infos[latest].shape == model.infos[node.outputs[0]].shape
            if node.name.startswith(f"{before.name}/") or (kept and not found):
                found = modules[before.name]
        modules[node.name] = found
    return {node.name: [*modules[node.name], node.name, *filter(None, node.outputs)] for node in graph.nodes}


def _own_modules(node: Node, graph: Graph) -> list[str]:
    found = dict.fromkeys(_modules(node.name, "/"))
    for name in node.inputs:
        constant = graph.constants.get(name)
        if constant is not None and constant.is_float and len(graph.consumers[name]) == 1:
            for source in sorted(constant.sources or {name}):
                found.update(dict.fromkeys(_modules(source, ".")))
    return sorted(found, key=lambda name: (name.count("/") + name.count("."), len(name)))


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
    info = model.infos[tensor]
    if info.dtype.kind != "f" or info.shape is None or len(info.shape) < 2 or info.value is not None:
        raise SettingsError(
            f"{model.name}: --blocks matches {key!r}, whose output {tensor!r} is no feature map "
            f"(shape {info.shape}, {info.dtype.name}); name something that makes a float tensor of rank 2 or more"
        )


def _distinct(blocks: Iterable[Declared]) -> list[Declared]:
    """Drop a group whose output another group has too, as the module inside of a module does."""
    return list({block.output: block for block in blocks}.values())


def _near(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(dict.fromkeys(known)), n=3, cutoff=0.4)
    return f"; near are {', '.join(map(repr, close))}" if close else ""
