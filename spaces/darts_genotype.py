"""The cells of DARTS: their values, their notations, and which of them are the same network."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import TypeAlias

from aznas_onnx.spaces.base import GenotypeError
from aznas_onnx.spaces.building import quote

__all__ = ["NODES", "CellPair", "DartsCell", "DartsOperation", "canonical_cell", "read_genotype", "write_genotype"]


class DartsOperation(str, enum.Enum):
    """Operation on an edge of a cell, by its name in the notation."""

    NONE = "none"
    MAX_POOL = "max_pool_3x3"
    AVERAGE_POOL = "avg_pool_3x3"
    SKIP = "skip_connect"
    SEPARABLE_3X3 = "sep_conv_3x3"
    SEPARABLE_5X5 = "sep_conv_5x5"
    DILATED_3X3 = "dil_conv_3x3"
    DILATED_5X5 = "dil_conv_5x5"


DartsEdge: TypeAlias = tuple[DartsOperation, int]
"""An operation, and the state that it reads: 0 or 1 for an input of the cell, 2 to 5 for a node."""

NODES = (2, 3, 4, 5)
_NUMBERED = tuple(DartsOperation)[1:]  # the operations of NAS-Bench-301, by their numbers
_FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
_EXAMPLE = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1), ...], normal_concat=range(2, 6), "
    "reduce=[...], reduce_concat=range(2, 6))"
)
_LONGEST = 4000  # characters of a text that is read; a genotype has about 500

_CALL = re.compile(r"(?:\w+\s*=\s*)?(?:\w+\.)?Genotype\((.*)\)", re.DOTALL)
_KEYWORD = re.compile(r"(\w+)\s*=")
_RANGE = re.compile(r"range\(\s*(\d)\s*,\s*(\d)\s*\)")
_TRAILING_COMMA = re.compile(r",\s*([\]}])")
_TO_JSON = str.maketrans({"'": '"', "(": "[", ")": "]"})


@dataclass(frozen=True, slots=True, kw_only=True)
class DartsCell:
    """A cell of two inputs (states 0 and 1) and four nodes (states 2 to 5), each the sum of two edges.

    - `edges`: Two for each node, in the order of the nodes.
    - `concat`: The nodes whose channels are the output, all four in the space of DARTS.
    """

    edges: tuple[DartsEdge, ...]
    concat: tuple[int, ...] = NODES

    def __post_init__(self) -> None:
        if len(self.edges) != 2 * len(NODES):
            raise GenotypeError(f"a cell of darts has {2 * len(NODES)} edges, two for each node, not {len(self.edges)}")
        for node, edge in self.by_node():
            operation, source = edge
            if not isinstance(operation, DartsOperation):
                raise GenotypeError(f"an edge of darts has an operation, not {operation!r}")
            if type(source) is not int or not 0 <= source < node:
                raise GenotypeError(f"darts: an edge of node {node} reads {source!r}; accepted are 0 to {node - 1}")
        if not self.concat or self.concat != tuple(node for node in NODES if node in self.concat):
            raise GenotypeError(
                f"darts: a cell concatenates {list(self.concat)}; accepted are one or more of {list(NODES)}, in order"
            )

    def by_node(self) -> Iterator[tuple[int, DartsEdge]]:
        """Yield every edge after its node."""
        for index, edge in enumerate(self.edges):
            yield NODES[index // 2], edge

    def reached(self) -> frozenset[int]:
        """Return the states that the output depends on in the graph."""
        found = set(self.concat)
        for node, (_, source) in reversed(tuple(self.by_node())):
            if node in found:
                found.add(source)
        return frozenset(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellPair:
    """A genotype: the cell that keeps the resolution, and the one that halves it."""

    normal: DartsCell
    reduce: DartsCell


def read_genotype(text: str) -> CellPair:
    """Read ``Genotype(...)`` of DARTS or ``[normal, reduce]`` of NAS-Bench-301; nothing is evaluated.

    Raises GenotypeError for any other text.
    """
    try:
        document = _document(text.strip())
        if isinstance(document, dict):
            normal, normal_concat, reduce, reduce_concat = (document.pop(field) for field in _FIELDS)
            cells = [] if document else [_cell(normal, normal_concat), _cell(reduce, reduce_concat)]
        else:
            cells = [_cell(edges, list(NODES)) for edges in _items(document)]
        first, second = cells
    except GenotypeError:
        raise
    except (ValueError, KeyError, RecursionError) as error:
        raise GenotypeError(f"{quote(text)} is not a genotype of DARTS such as {_EXAMPLE}") from error
    return CellPair(normal=first, reduce=second)


def _document(text: str) -> object:
    """Return a text in Python's notation of lists, tuples, names and numbers as JSON values."""
    if len(text) > _LONGEST:
        raise ValueError
    call = _CALL.fullmatch(text)
    if call is not None:
        text = "{" + _KEYWORD.sub(r'"\1":', call[1]) + "}"
    text = _RANGE.sub(lambda found: str(list(range(int(found[1]), int(found[2])))), text)
    document: object = json.loads(_TRAILING_COMMA.sub(r"\1", text.translate(_TO_JSON)))
    return document


def _items(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError  # what the reader of the whole text catches
    return value


def _cell(edges: object, concat: object) -> DartsCell:
    nodes = tuple(node for node in _items(concat) if isinstance(node, int))
    if len(nodes) != len(_items(concat)):
        raise ValueError
    return DartsCell(edges=tuple(_edge(pair) for pair in _items(edges)), concat=nodes)


def _edge(pair: object) -> DartsEdge:
    """Return (operation, state) as DARTS writes it, or (state, number of the operation) as NAS-Bench-301 does."""
    match pair:
        case [str() as name, int() as source]:
            return _operation(name), source
        case [int() as source, int() as number] if 0 <= number < len(_NUMBERED):
            return _NUMBERED[number], source
    raise ValueError


def _operation(name: str) -> DartsOperation:
    try:
        return DartsOperation(name)
    except ValueError as error:
        known = ", ".join(operation.value for operation in DartsOperation)
        raise GenotypeError(f"{quote(name)} is not an operation of DARTS; accepted are {known}") from error


def write_genotype(genotype: CellPair) -> str:
    """Write a genotype as DARTS does."""
    parts = []
    for name, cell in (("normal", genotype.normal), ("reduce", genotype.reduce)):
        edges = [(operation.value, source) for operation, source in cell.edges]
        parts.append(f"{name}={edges}, {name}_concat={list(cell.concat)}")
    return f"Genotype({', '.join(parts)})"


def canonical_cell(cell: DartsCell) -> DartsCell:
    """Return the same cell for all cells that differ in names alone, or in edges that have no effect.

    - The order of a node's two edges and the order of the nodes are names: the nodes' sums are the same, and what reads
      the output can permute its channels.
    - An edge has no effect where its operation is `none`, nothing but `none` reaches its source, or its node does not
      reach the output. It becomes a `none` that reads state 0.
    """
    edges = _effective_edges(cell)
    forms = []
    for order in permutations(NODES):
        place = {0: 0, 1: 1, **dict(zip(NODES, order, strict=True))}
        moved = {place[node]: sorted((place[s], operation.value) for operation, s in edges[node]) for node in NODES}
        if all(source < node for node in NODES for source, _ in moved[node]):
            concat = tuple(sorted(place[node] for node in cell.concat))
            forms.append((tuple(edge for node in NODES for edge in moved[node]), concat))
    first, concat = min(forms)
    return DartsCell(edges=tuple((DartsOperation(name), source) for source, name in first), concat=concat)


def _effective_edges(cell: DartsCell) -> dict[int, list[DartsEdge]]:
    """Return the two edges of each node; one without an effect is a `none` that reads state 0."""
    present = [
        (node, operation, source)
        for node, (operation, source) in cell.by_node()
        if operation is not DartsOperation.NONE
    ]
    fed, used = {0, 1}, set(cell.concat)
    for node, _, source in present:  # in topological order
        if source in fed:
            fed.add(node)
    for node, _, source in reversed(present):
        if node in used:
            used.add(source)
    edges: dict[int, list[DartsEdge]] = {node: [] for node in NODES}
    for node, operation, source in present:
        if source in fed and node in used:
            edges[node].append((operation, source))
    return {node: [*kept, *[(DartsOperation.NONE, 0)] * (2 - len(kept))] for node, kept in edges.items()}
