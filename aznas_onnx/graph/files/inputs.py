"""The sample input, the shapes of all inputs, and the axes that can be the batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, product
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from aznas_onnx.errors import ModelError, SettingsError
from aznas_onnx.graph.ir.graph import Array, Graph, GraphInput, LookUp
from aznas_onnx.operators.sets import KEEPS_ORDER, KEEPS_VALUES, RECURRENT, SELECTS

__all__ = ["BATCH_MARK", "InputPlan", "InputTable", "plan_inputs", "read_inputs"]

NO_PADDING = 2  # the first token id that networks do not treat as padding
_IN_WORDS = {0: "zeros", 1: "ones", 2: "twos"}

BATCH_MARK = -1  # in a given shape: this axis is the batch
FREE_BATCH = (
    2  # the reference batch of a model that leaves it open; above 1 so that no axis of size 1 is mistaken for it
)
_LENGTH, _CHANNELS, _SIDE = 128, 3, 224  # sizes that a message proposes for a sequence and for an image
_MOST_WAYS = 12  # in which several inputs can share the batch

_Dimension: TypeAlias = "int | str | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputPlan:
    """Shapes of all inputs as a function of the batch size.

    - `primary`: The input with the samples: the largest float input. It can replace a look-up.
    - `declared_batch`: The batch size of the file; :data:`FREE_BATCH` where it is open, 1 where there is no batch.
    - `sample_shapes`: Complete shapes at the declared batch size.
    - `batch_axes`: The axis that is the batch, of each input that has one; empty where the network has no batch.
    - `batch_is_free`: Whether the file leaves the batch size open.
    - `sampled`: Inputs of Gaussian samples.
    - `fills`: The fill value of each integer input without samples.
    - `indices`: Integer inputs that index rows of a computed tensor (edges of a graph), and the number of rows: they
      are random.
    - `look_ups`: The look-ups that inputs replace.
    - `values`: Values of inputs from the user, repeated over the axes that they lack.
    - `warnings`: Assumptions, in words for the user.
    """

    primary: str
    declared_batch: int
    sample_shapes: Mapping[str, tuple[int, ...]]
    batch_axes: Mapping[str, int]
    batch_is_free: bool
    sampled: frozenset[str]
    fills: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    indices: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    look_ups: Mapping[str, LookUp] = field(default_factory=lambda: MappingProxyType({}))
    values: Mapping[str, Array] = field(default_factory=lambda: MappingProxyType({}))
    warnings: tuple[str, ...] = ()

    @property
    def batched(self) -> frozenset[str]:
        """Inputs that have a batch axis."""
        return frozenset(self.batch_axes)

    @property
    def has_batch(self) -> bool:
        """Whether the network takes several samples at a time."""
        return bool(self.batch_axes)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample of the primary input: that of the ids, where the input replaces a look-up."""
        look_up = self.look_ups.get(self.primary)
        return self.shape_of_one(self.primary if look_up is None else look_up.ids)

    def shape_of_one(self, name: str) -> tuple[int, ...]:
        """Return an input's shape for one sample: without the batch, where it has one."""
        shape, axis = self.sample_shapes[name], self.batch_axes.get(name)
        return shape if axis is None else (*shape[:axis], *shape[axis + 1 :])

    @property
    def run_batch(self) -> int:
        """The batch size for running the file as it is: 1 where it leaves it open."""
        return 1 if self.batch_is_free else self.declared_batch

    def shapes(self, batch_size: int) -> dict[str, tuple[int, ...]]:
        """Return every input's shape at a batch size."""
        return {
            name: _resized(shape, self.batch_axes.get(name), batch_size) for name, shape in self.sample_shapes.items()
        }

    def with_indices(self, indices: Mapping[str, int]) -> InputPlan:
        """Return the plan with random inputs that index rows, and the number of rows."""
        rows_of = {name: rows for name, rows in indices.items() if name not in self.values}
        others = [text for text in self.warnings if not any(text.startswith(f"input {name!r} ") for name in rows_of)]
        added = [f"input {name!r} names rows, and is filled with random ones of {n}" for name, n in rows_of.items()]
        return replace(self, indices=MappingProxyType(rows_of), warnings=(*others, *added))

    def written_for(self, batch_size: int) -> InputPlan:
        """Return the plan of a file with a fixed batch size, also where it declares an open one."""
        return replace(self, declared_batch=batch_size, sample_shapes=self.shapes(batch_size), batch_is_free=False)


def _resized(shape: tuple[int, ...], axis: int | None, size: int) -> tuple[int, ...]:
    return shape if axis is None else (*shape[:axis], size, *shape[axis + 1 :])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """An input as the file declares it, and its sizes as far as the file or a given shape has them.

    A declared dimension is a size, a symbol, or None.
    """

    value: GraphInput
    declared: tuple[_Dimension, ...]
    sizes: tuple[int | None, ...]
    marked: int | None  # the axis that a given shape calls the batch
    state_axis: int | None  # the batch axis of what recurrent layers begin with

    @property
    def name(self) -> str:
        return self.value.name

    def is_open(self, axis: int) -> bool:
        return axis < len(self.declared) and not isinstance(self.declared[axis], int)


@dataclass(frozen=True, kw_only=True)
class InputTable:
    """A graph's inputs, before it is known which of their axes is the batch.

    - `rows`: One per input.
    - `primary`: The row of the input with the samples.
    - `fills`, `look_ups`, `warnings`: As in :class:`InputPlan`.
    """

    rows: tuple[_Row, ...]
    primary: _Row
    fills: Mapping[str, int]
    look_ups: Mapping[str, LookUp]
    warnings: tuple[str, ...]

    @property
    def is_settled(self) -> bool:
        """Whether a given shape marks the batch axis."""
        return self.primary.marked is not None

    @property
    def candidates(self) -> tuple[int, ...]:
        """Axes of the samples that can be the batch, the likeliest first.

        That is the first axis, unless the file fixes it to more than one and leaves another open, or to one and gives
        another the name of the first axis of a further input.
        """
        row = self.primary
        if row.marked is not None:
            return (row.marked,)
        axes = range(len(row.declared) - (row.value.replaces is not None))
        free = [axis for axis in axes if row.is_open(axis)]
        first = row.declared[0]
        leading = {other.declared[0] for other in self.rows if other is not row and len(other.declared) > 1}
        named = [axis for axis in free if isinstance(row.declared[axis], str) and row.declared[axis] in leading]
        if isinstance(first, int) and (first > 1 or named):
            order = (*named, *free, *axes)
        else:
            order = (0, *free, *axes)
        return tuple(dict.fromkeys(order))

    def batch_size(self, axis: int) -> int:
        """Return the batch size that the file is written for, if this axis of the samples is the batch."""
        size = self.primary.declared[axis]
        return size if isinstance(size, int) else FREE_BATCH

    def pairs(self, axis: int) -> str:
        """Return an input that has the name of an axis of the samples twice, for pairs of what stands along it."""
        name = self.primary.declared[axis]
        named = (row.name for row in self.rows if isinstance(name, str) and row.declared.count(name) > 1)
        return "" if self.is_settled else next(named, "")

    def ways(self, axis: int) -> Iterator[Mapping[str, int]]:
        """Yield the batch axes of all inputs if this axis of the samples is the batch, the likeliest way first."""
        others = [row for row in self.rows if row is not self.primary]
        choices = [[(row.name, shared) for shared in self._shared(row, axis)] for row in others]
        for chosen in islice(product(*choices), _MOST_WAYS):
            yield {self.primary.name: axis, **{name: shared for name, shared in chosen if shared is not None}}

    def _shared(self, row: _Row, axis: int) -> list[int | None]:
        """Return the axes of another input that can be the same batch; None is for an input without it."""
        if row.marked is not None:
            return [row.marked]
        batch = self.primary.declared[axis]
        state = row.state_axis
        if state is not None and state < len(row.declared) and (row.is_open(state) or row.declared[state] == batch):
            return [state, None]
        written = [place for place, size in enumerate(row.declared) if size == batch and size is not None]
        if isinstance(batch, int):
            return list(dict.fromkeys((axis if axis in written else None, *written, None)))
        if written:
            return [*written, None]
        lengths = {size for size in self.primary.declared if isinstance(size, str)}
        free = [
            place for place in range(len(row.declared)) if row.is_open(place) and row.declared[place] not in lengths
        ]
        return list(dict.fromkeys((*(place for place in (axis, 0) if place in free), None, *free)))

    def plan(self, batch_axes: Mapping[str, int], *, guess: bool = False) -> InputPlan:
        """Return the plan for these batch axes; an empty mapping for a network without a batch.

        - `batch_axes`: By input.
        - `guess`: Whether to use usual sizes where neither the file nor a given shape has one, and the file's where a
          given shape contradicts it.

        Raises ModelError if a size is unknown.
        Raises SettingsError if a given shape contradicts the file.
        """
        axis = batch_axes.get(self.primary.name)
        batch = 1 if axis is None else self.batch_size(axis)
        shapes = {row.name: _complete(row, batch_axes.get(row.name), batch, guess) for row in self.rows}
        sampled = [
            row.name
            for row in self.rows
            if row.value.dtype == np.float32 and (row.name in batch_axes or (axis is None and len(row.declared) > 1))
        ]
        values = {row.name: row.value.value for row in self.rows if row.value.value is not None}
        explained = {self.primary.name, *self.look_ups, *values, *(look_up.ids for look_up in self.look_ups.values())}
        assumed = [
            _assumption(row.value, row.name in sampled, self.fills) for row in self.rows if row.name not in explained
        ]
        return InputPlan(
            primary=self.primary.name,
            declared_batch=batch,
            sample_shapes=MappingProxyType(shapes),
            batch_axes=MappingProxyType(dict(batch_axes)),
            batch_is_free=axis is not None and self.primary.is_open(axis),
            sampled=frozenset(sampled),
            fills=self.fills,
            look_ups=self.look_ups,
            values=MappingProxyType(values),
            warnings=(*self.warnings, *assumed),
        )


def _complete(row: _Row, axis: int | None, batch: int, guess: bool) -> tuple[int, ...]:
    """Return the sizes of an input, that of its batch axis included."""
    for place, (declared, size) in enumerate(zip(row.declared, row.sizes, strict=True)):
        if place != axis and isinstance(declared, int) and size != declared and not guess:
            raise SettingsError(
                f"--input gives axis {place} of {row.name!r} size {size}, but the model fixes it to {declared}"
            )
    unknown = [place for place, size in enumerate(row.sizes) if size is None and place != axis]
    if unknown and not guess:
        example = _usual(row, axis, 1 if axis is not None and row.is_open(axis) else batch)
        raise ModelError(
            f"the size of input {row.name!r} is unknown on axis {unknown[0]}; "
            f"give it with --input {row.name}={'x'.join(map(str, example))}"
        )
    return _usual(row, axis, batch)


def _usual(row: _Row, axis: int | None, batch: int) -> tuple[int, ...]:
    """Return the sizes of an input, usual ones where they are unknown."""
    is_image = len(row.sizes) > 3 and row.value.dtype.kind == "f"
    usual = [_CHANNELS if place == 1 else _SIDE for place in range(len(row.sizes))]
    return tuple(
        batch if place == axis else size if size is not None else usual[place] if is_image else _LENGTH
        for place, size in enumerate(_fitting(row))
    )


def _fitting(row: _Row) -> Iterator[int | None]:
    """Yield the sizes of an input, the file's where it declares one."""
    for declared, size in zip(row.declared, row.sizes, strict=True):
        yield declared if isinstance(declared, int) else size


def plan_inputs(
    graph: Graph, given: Mapping[str, tuple[int, ...]], *, sample_dtypes: Sequence[npt.DTypeLike] = (np.float32,)
) -> InputPlan:
    """Plan the shapes of a graph's inputs from declared and given shapes alone.

    Parameters and exceptions are those of :func:`read_inputs` and :meth:`InputTable.plan`.
    """
    table = read_inputs(graph, given, sample_dtypes=sample_dtypes)
    return table.plan(next(table.ways(table.candidates[0])))


def read_inputs(
    graph: Graph, given: Mapping[str, tuple[int, ...]], *, sample_dtypes: Sequence[npt.DTypeLike] = (np.float32,)
) -> InputTable:
    """Read the declared and the given shapes of a graph's inputs.

    The largest float input of rank 2 or more has the samples. Other inputs share its batch if one of their axes is
    declared equally; an input of fixed shape beside an open batch is a constant that the exporter leaked. The size of a
    symbol in a given shape holds for all inputs. A given batch size is an example only. An input that replaces a
    look-up has the shape of its ids and one more axis.

    - `graph`: A lowered graph in float32.
    - `given`: Shapes from the user, by input name; the name ``""`` is the only input with samples. The size
      :data:`BATCH_MARK` marks the batch axis.
    - `sample_dtypes`: Of inputs that can have the samples; scoring feeds Gaussian ones.

    Raises ModelError if there is no float input, or its shape is unknown.
    Raises SettingsError if a given shape has an unknown name, or another number of axes than the file.
    """
    names = [value.name for value in graph.inputs if value.replaces is None]
    unknown = sorted(set(given) - set(names) - {""})
    if unknown and len(unknown) == len(given):
        found = ", ".join(map(repr, names))
        raise SettingsError(
            f"--input names {unknown[0]!r}, but the inputs are {found}; a shape without a name is that of the samples"
        )
    floats = [value for value in graph.inputs if value.dtype in sample_dtypes and value.value is None]
    if not floats:
        raise ModelError(_without_floats(graph))
    states = _state_axes(graph)
    primary = _primary([value for value in floats if value.name not in states] or floats, given)
    if "" in given:
        carrier = primary.name if primary.replaces is None else primary.replaces.ids
        given = {**{k: v for k, v in given.items() if k}, carrier: given[""]}
    texts = [value.name for value in graph.inputs if value.dtype.kind not in "fiub"]
    if texts:
        raise ModelError(f"input {texts[0]!r} holds neither numbers nor booleans; only these can be fed")
    rows = _read_rows(graph.inputs, primary, given, states)
    samples = next(row for row in rows if row.value is primary)
    if len(samples.declared) < 2:
        raise ModelError(
            f"input {primary.name!r} has {len(samples.declared)} axes; "
            "two or more are needed, one of which is the batch"
        )
    return InputTable(
        rows=rows,
        primary=samples,
        fills=MappingProxyType(_fills(graph)),
        look_ups=MappingProxyType({v.name: v.replaces for v in graph.inputs if v.replaces is not None}),
        # The name can belong to another model on the command line, so it is not an error here.
        warnings=tuple(f"--input names {name!r}, which this network does not have" for name in unknown),
    )


def _read_rows(
    inputs: Sequence[GraphInput],
    primary: GraphInput,
    given: Mapping[str, tuple[int, ...]],
    states: Mapping[str, int],
) -> tuple[_Row, ...]:
    known: dict[str, int] = {}  # sizes of symbols
    for value in inputs:
        pairs = zip(value.shape or (), _given(value, given) or (), strict=False)
        known.update((symbol, size) for symbol, size in pairs if isinstance(symbol, str) and size != BATCH_MARK)
    return tuple(
        replace(_read_row(value, _given(value, given), known, value is primary), state_axis=states.get(value.name))
        for value in inputs
    )


def _state_axes(graph: Graph) -> dict[str, int]:
    """Return the batch axis of inputs that recurrent layers begin with, all of them or a layer each of a longer one."""
    roots = {value.name: value.name for value in graph.inputs}
    found: dict[str, int] = {}
    is_recurrent = any(node in RECURRENT for node in graph.nodes)
    for node in graph.nodes if is_recurrent else ():
        if (node in KEEPS_VALUES or node in SELECTS) and node.inputs[0] in roots:
            roots.update(dict.fromkeys(node.outputs, roots[node.inputs[0]]))
        elif node in RECURRENT:
            states = [roots[name] for name in node.inputs[5:7] if name in roots]
            found.update(dict.fromkeys(states, 0 if node.attributes.get("layout", 0) else 1))
    return found


def _read_row(value: GraphInput, given: tuple[int, ...] | None, known: Mapping[str, int], is_primary: bool) -> _Row:
    if value.shape is None and given is None:
        example = "1x128" if value.dtype.kind in "iu" else "1x3x224x224"
        raise ModelError(
            f"the shape of input {value.name!r} is unknown on every axis; give it with --input {value.name}={example}"
        )
    shape = (None,) * len(given or ()) if value.shape is None else value.shape
    if given is not None and len(given) != len(shape):
        raise SettingsError(f"--input gives {value.name!r} {len(given)} axes, but the model has {len(shape)}")
    # Some exporters write 0 or -1 for an unknown size; in other inputs than the samples, 0 is an empty cache.
    declared = tuple(
        None if isinstance(size, int) and size < (1 if is_primary or axis == 0 else 0) else size
        for axis, size in enumerate(shape)
    )
    sizes = [known.get(size) if isinstance(size, str) else size for size in declared]
    marked = None
    for axis, size in enumerate(given or ()):
        if size == BATCH_MARK and marked is not None:
            raise SettingsError(f"--input calls two axes of {value.name!r} the batch; there is one")
        if size < BATCH_MARK or (size == 0 and is_primary):
            raise SettingsError(f"--input gives axis {axis} of {value.name!r} size {size}; 1 or more is accepted")
        if size == BATCH_MARK:
            marked = axis
        else:
            sizes[axis] = size
    return _Row(value=value, declared=declared, sizes=tuple(sizes), marked=marked, state_axis=None)


def _given(value: GraphInput, given: Mapping[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    """Return the shape that the user gives an input; that of its ids, and the table's width, to a look-up's."""
    if value.replaces is None or value.shape is None or value.replaces.ids not in given:
        return given.get(value.name)
    width = value.shape[-1]
    assert isinstance(width, int)  # of a table in the file
    return (*given[value.replaces.ids], width)


def _without_floats(graph: Graph) -> str:
    steering = [value.name for value in graph.inputs if value.value is not None and value.dtype.kind == "f"]
    if steering:
        return f"no float input is left to feed Gaussian samples to; give {steering[0]!r} no --value"
    found = ", ".join(f"{value.name!r} ({value.dtype.name})" for value in graph.inputs) or "none"
    return (
        f"no float input to feed Gaussian samples to (inputs: {found}), and no table that one of them is looked up in; "
        "export the network from its first float tensor"
    )


def _fills(graph: Graph) -> dict[str, int]:
    """Choose what each input of integers is filled with.

    Masks and the like with ones. Ids with 2, because networks take 0 or 1 for padding and leave it out of attention;
    what else is looked up, such as the type of a token, with 0, which every table has.
    """
    fills = {value.name: 1 for value in graph.inputs if value.dtype.kind in "iu"}
    roots = {name: name for name in fills}
    for node in graph.nodes if fills else ():
        if node in KEEPS_ORDER and node.inputs[0] in roots:
            roots[node.outputs[0]] = roots[node.inputs[0]]
        elif node.is_op("Gather") and node.inputs[1] in roots:
            fills[roots[node.inputs[1]]] = 0
    for value in graph.inputs:
        if value.replaces is not None:
            fills[value.replaces.ids] = min(NO_PADDING, value.replaces.rows - 1)
    return fills


def _assumption(value: GraphInput, is_sampled: bool, fills: Mapping[str, int]) -> str:
    if is_sampled:
        return f"input {value.name!r} is fed Gaussian samples too"
    filled = "true" if value.dtype == np.bool_ else _IN_WORDS[fills.get(value.name, 1)]
    return f"input {value.name!r} ({value.dtype.name}) carries no samples and is filled with {filled}"


def _primary(floats: list[GraphInput], given: Mapping[str, tuple[int, ...]]) -> GraphInput:
    def size(value: GraphInput) -> tuple[int, bool, int]:
        shape = _given(value, given) or value.shape or ()
        known = [d for d in shape if isinstance(d, int) and d > 0]
        return (len(shape), not _joins(value, floats), int(np.prod(known, dtype=np.float64)) if known else 0)

    return max(floats, key=size)  # the first of equals, as the file lists them


def _joins(value: GraphInput, others: list[GraphInput]) -> bool:
    """Whether an input has a number for each pair of the rows of another one, as the adjacency of a graph has."""
    shape = value.shape or ()
    if len(shape) < 2 or shape[-1] != shape[-2] or shape[-1] in (None, 1):
        return False
    return any(other is not value and (other.shape or ())[:-1] == shape[:-1] for other in others)
