"""Readable names for blocks, from common names of their weights or nodes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import takewhile

from aznas_onnx.blocks.types import BlockKind
from aznas_onnx.graph.ir.graph import Graph, Node

__all__ = ["block_names"]

_MADE_UP = re.compile(r"^(onnx::|val_|const|node_|n\d)|^\d+$")  # from exporters, not from the architecture


def block_names(members: Sequence[Sequence[Node]], kinds: Sequence[BlockKind], graph: Graph) -> list[str]:
    """Return a unique name for each block.

    - `members`: The nodes of each block.
    - `kinds`: Their kinds; an unnamed block is called by its kind and a number.
    - `graph`: Graph of the nodes.
    """
    scopes = [_common_scope(nodes, graph) for nodes in members]
    uses = Counter(scopes)
    paired = Counter(zip(scopes, kinds, strict=True))
    names: list[str] = []
    numbers: Counter[BlockKind] = Counter()
    for scope, kind in zip(scopes, kinds, strict=True):
        numbers[kind] += 1
        if scope and uses[scope] == 1:
            names.append(scope)
        elif scope and paired[scope, kind] == 1:
            names.append(f"{scope} {kind.value}")
        else:
            names.append(f"{kind.value} {numbers[kind]}")
    return _unique(names)


def _common_scope(nodes: Iterable[Node], graph: Graph) -> str:
    """Return the innermost module that all weights, or else all nodes, are named after; empty where none is."""
    nodes = list(nodes)
    weights = [scope for node in nodes for scope in _weight_scopes(node, graph)]
    shared = _shared(weights)
    if shared:
        return ".".join(shared)
    slashed = [tuple(part for part in node.name.split("/") if part)[:-1] for node in nodes if "/" in node.name]
    shared = _shared(slashed) if len(slashed) == len(nodes) else ()
    # TorchScript repeats the modules above: layer1/layer1.0/conv1
    below = (*shared[1:], "")
    inner = [part for part, next_ in zip(shared, below, strict=False) if not next_.startswith(part + ".")]
    return ".".join(inner)


def _weight_scopes(node: Node, graph: Graph) -> Iterable[tuple[str, ...]]:
    for name in node.inputs:
        constant = graph.constants.get(name)
        if constant is None or not constant.is_float or len(graph.consumers[name]) > 1:
            continue  # exporters let equal weights of different modules share one tensor
        for source in constant.sources or {name}:
            if "." in source and "/" not in source and not _MADE_UP.match(source):
                yield tuple(source.split("."))[:-1]


def _shared(scopes: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    if not scopes:
        return ()
    first, last = min(scopes), max(scopes)
    pairs = zip(first, last, strict=False)  # all that lies between two agrees in what these two agree in
    return tuple(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _unique(names: Sequence[str]) -> list[str]:
    taken: set[str] = set()
    result = []
    for name in names:
        number, unique = 1, name
        while unique in taken:
            number += 1
            unique = f"{name} ({number})"
        taken.add(unique)
        result.append(unique)
    return result
