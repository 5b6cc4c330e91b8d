"""Uses of constants that belong to one parameter.

A file does not store parameters one by one. An exporter writes a tied weight twice, the second time transposed, or once
for each call of a shared layer, and it stores equal vectors of different layers once: the ones and zeros before
training. So a parameter is identified by its numbers where they are distinctive, and by its place where they are not:

- *Many different numbers* are one parameter in either order of a matrix's axes, in a table and in a layer, and in every
  exporter's copy. Two initialisers with names of the network are two parameters, also with equal numbers.
- *Few*, as in vectors of ones or zeros, are a parameter for each layer that reads them. A layer that is run again is
  the same one: its vector follows the same weight, by the same operator, as before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from functools import cached_property
from typing import TypeAlias

import numpy as np

from aznas_onnx.graph.constants.content import Content, content, is_uniform, read, read_at, varying
from aznas_onnx.graph.constants.provenance import Provenance, is_made_by_exporter
from aznas_onnx.graph.ir.graph import Array, Constant, Graph, Node, Storage
from aznas_onnx.graph.ir.uniform_constants import is_filled
from aznas_onnx.graph.meaning.constant_roles import Use

__all__ = ["Sharing"]

_COMPARED_ELEMENTS = 2**28  # of all matrices of a file together
_MARK = 64  # numbers that distinguish matrices
_Sizes: TypeAlias = tuple[int, ...]
_STEPS = 10_000  # numbers with four decimals can be chosen by hand


class Sharing:
    """The parameters of a graph found so far, in graph order.

    - `uses`: All uses of its trainable constants.
    - `provenance`: Of the graph. With copied layers, equal numbers belong to several parameters; then the place of a
      layer decides, and a matrix is a copy of another only where one of them is a table.
    """

    def __init__(self, graph: Graph, uses: Iterable[Use], provenance: Provenance) -> None:
        self._graph = graph
        self._provenance = provenance
        self._holds_clones = provenance.holds_clones
        self._tables: set[str] = set()
        self._weights = {use.node.name: use.name for use in uses if use.role.is_weight}
        self._order = {name: place for place, name in enumerate(self._weights)}
        self._behind: dict[str, str] = {}
        self._follow_layers()
        self._first: dict[_Sizes, tuple[str, Constant]] = {}
        self._known: dict[tuple[_Sizes, bytes], list[tuple[str, Constant]]] = {}
        self._original: dict[str, str] = {}
        self._vectors: dict[Hashable, str] = {}  # the constant with the numbers, or none for derived ones
        self._met: set[Hashable] = set()
        self._places: Counter[Hashable] = Counter()
        self._left = _COMPARED_ELEMENTS

    def is_new_matrix(self, name: str, root: Constant, *, is_table: bool = False) -> bool:
        """Whether no earlier root has the same numbers, transposed or not."""
        if is_table:
            self._tables.add(name)
        sizes = tuple(sorted(size for size in root.shape if size > 1))
        first = self._first.setdefault(sizes, (name, root))
        if len(sizes) < 2 or first[1] is root:
            return True
        if (sizes, b"") not in self._known:  # the first is read once there is a second
            self._known[sizes, b""] = []
            self._known.setdefault((sizes, self._mark(first[1])), []).append(first)
        mark = self._mark(root)
        others = self._known.setdefault((sizes, mark), [])
        original = next(
            (other for other, known in others if mark and self._is_original(other, known, name, root)), None
        )
        if original is None:
            others.append((name, root))
        else:
            self._original[name] = original
        return original is None

    def _is_original(self, other: str, known: Constant, name: str, root: Constant) -> bool:
        """Whether `name` is a copy of `other` that an exporter wrote."""
        if (name in self._tables) != (other in self._tables):
            return _is_copy(root, known)
        if self._holds_clones:
            return False
        return _is_copy(root, known, transposed_only=name not in self._tables and self._are_two(name, other))

    def _are_two(self, name: str, other: str) -> bool:
        """Whether two constants of equal numbers in equal order are two parameters.

        They are where the network names both as initialisers: a file stores shared weights once, and an exporter's
        copies have generated names.
        """
        names = (name, other)
        stored = [self._graph.constants[one].storage for one in names if one in self._graph.constants]
        as_weights = all(storage in (Storage.FILE, Storage.INITIALISER) for storage in stored)
        return name != other and as_weights and not any(map(is_made_by_exporter, names))

    def _mark(self, root: Constant) -> bytes:
        """Return some of a root's numbers that a transposition does not move; empty where they are not distinctive."""
        self._left -= root.elements
        if is_filled(root) or not root.elements:
            return b""
        sizes = [size for size in root.shape if size > 1]
        step = sizes[1] + 1 if len(sizes) == 2 else 1  # the diagonal of a matrix
        count = min(_MARK, *sizes) if len(sizes) == 2 else min(_MARK, root.elements)
        numbers = read_at(root, range(0, count * step, step), self._left + root.elements)
        return b"" if numbers is None else _numbers_of(numbers)

    def is_new_numbers(self, name: str, constant: Constant) -> bool | None:
        """Whether no earlier vector has the same numbers, or zero or one minus these.

        None where they are not distinctive: they are few, or two vectors of the network have them.
        """
        values = None if is_filled(constant) or self._holds_clones else read(constant)
        if values is None or is_uniform(values):
            return None
        numbers = varying(values).reshape(-1)
        if not _says_something(numbers):
            return None
        other = self._vectors.get(numbers.tobytes())
        if other is not None and content(numbers) is Content.FREE:
            return None if other and self._are_two(name, other) else False
        variants = (1 - numbers, -numbers) if numbers.size > 1 else ()
        self._vectors.update(dict.fromkeys((variant.tobytes() for variant in variants), ""))
        self._vectors[numbers.tobytes()] = name
        return True

    def is_new_place(self, use: Use) -> bool:
        """Whether a use of an undistinctive vector belongs to a new layer."""
        place = self._place(use, self._graph.constants[use.name])
        is_new = place is None or place not in self._met
        self._met.add(place)
        return is_new

    def repeats(self, node: Node) -> bool:
        """Whether an earlier node has the same weight; valid once all uses were added."""
        return node.name in self._weights and self._first_of_layer[self._layer(node.name)] != node.name

    @cached_property
    def _first_of_layer(self) -> dict[tuple[str, ...], str]:
        return {self._layer(name): name for name in reversed(self._weights)}

    def _place(self, use: Use, constant: Constant) -> Hashable:
        """Return what two uses have in common that are of one layer, run again; None where no weight comes before."""
        nearest = use.node.name if use.node.name in self._weights else self._last(use.node.inputs)
        if nearest is None:
            return None
        what = (use.role, use.node.op_type, use.index, constant.elements)
        self._places[nearest, what] += 1  # two normalisations behind one layer are two
        return what, self._layer(nearest), self._places[nearest, what]

    def _layer(self, node: str) -> tuple[str, ...]:
        """Return the identity of a node's weight, equal for all copies."""
        weight = self._weights[node]
        roots = self._graph.constants[weight].sources or {weight}
        if self._holds_clones and any(self._provenance.copies(root) > 1 for root in roots):
            return (node,)
        return tuple(sorted({self._original.get(root, root) for root in roots}))

    def _follow_layers(self) -> None:
        """Find the last node with a weight before each tensor."""
        for node in self._graph.nodes:
            nearest = node.name if node.name in self._weights else self._last(node.inputs)
            if nearest is not None:
                self._behind.update((output, nearest) for output in node.outputs if output)

    def _last(self, tensors: Iterable[str]) -> str | None:
        before = [self._behind[name] for name in tensors if name in self._behind]
        return max(before, key=self._order.__getitem__, default=None)


def _is_copy(root: Constant, known: Constant, *, transposed_only: bool = False) -> bool:
    """Whether two roots have the same numbers up to rounding to half precision."""
    left, right = read(root, _COMPARED_ELEMENTS), read(known, _COMPARED_ELEMENTS)
    if left is None or right is None:
        return False
    left, right = np.squeeze(left), np.squeeze(right)
    both = [(left, right)] if left.shape == right.shape and not transposed_only else []
    both += [(left, right.T)] if left.ndim == 2 and left.shape == right.T.shape else []
    return any(np.allclose(one, other, rtol=1e-3, atol=1e-6) for one, other in both)


def _numbers_of(chosen: Array) -> bytes:
    with np.errstate(over="ignore"):
        half = np.asarray(chosen, dtype=np.float16)
    return half.tobytes() if 2 * np.unique(half).size > half.size and _says_something(chosen) else b""


def _says_something(values: Array) -> bool:
    """Whether numbers are so many and so irregular that two layers cannot have them by chance."""
    flat = values.reshape(-1)
    if 2 * np.unique(flat).size <= flat.size:
        return False
    steps = flat.astype(np.float64) * _STEPS
    return bool((np.abs(steps - np.round(steps)) > 0.01).any())
