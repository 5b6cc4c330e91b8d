"""Which input carries the samples, what shapes the inputs have, and whether the batch is free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from aznas_onnx.errors import ModelError, SettingsError
from aznas_onnx.graph.ir import Array, Graph, GraphInput, LookUp

__all__ = ["InputPlan", "plan_inputs"]

NO_PADDING = 2  # the first token id that networks do not take for padding and leave out of attention
_SAME_VALUES = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
_IN_WORDS = {0: "zeros", 1: "ones", 2: "twos"}

FREE_BATCH = (
    2  # the reference batch of a model that leaves it open; above 1 so that no axis of size 1 is mistaken for it
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputPlan:
    """Shapes of all inputs as a function of the batch size.

    Attributes
    ----------
    primary
        The input that carries the samples: the largest float input. It may be one that takes the place of a look-up.
    declared_batch
        The batch size that the file is written for; :data:`FREE_BATCH` where it leaves it open.
    sample_shapes
        Complete shapes at the declared batch size.
    batch_is_free
        Whether the file leaves the batch size open.
    batched
        Inputs whose axis 0 is the batch.
    fills
        What an input of integers, which carries no samples, is filled with.
    look_ups
        The look-ups that inputs take the place of.
    values
        What inputs hold where the user says it, repeated over the axes that it lacks.
    warnings
        What was assumed.
    """

    primary: str
    declared_batch: int
    sample_shapes: Mapping[str, tuple[int, ...]]
    batched: frozenset[str]
    batch_is_free: bool
    fills: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    look_ups: Mapping[str, LookUp] = field(default_factory=lambda: MappingProxyType({}))
    values: Mapping[str, Array] = field(default_factory=lambda: MappingProxyType({}))
    warnings: tuple[str, ...] = ()

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample of what carries the samples: of the ids, where a look-up gave way to an input."""
        look_up = self.look_ups.get(self.primary)
        name = self.primary if look_up is None else look_up.ids
        shape = self.sample_shapes[name]
        return shape[1:] if name in self.batched else shape

    def shapes(self, batch_size: int) -> dict[str, tuple[int, ...]]:
        """Return every input's shape at a batch size."""
        return {
            name: (batch_size, *shape[1:]) if name in self.batched else shape
            for name, shape in self.sample_shapes.items()
        }


def plan_inputs(graph: Graph, given: Mapping[str, tuple[int, ...]]) -> InputPlan:
    """Decide the shapes of a graph's inputs.

    The rule: the largest float input of rank 2 or more carries the samples, and its axis 0 is the batch. Other
    inputs share the batch if their axis 0 is written in the same way; an input of fixed shape beside a free batch
    is a constant that the exporter leaked. A symbol that a given shape gives a size has it in other inputs, too. What
    takes the place of a look-up has the shape of its ids and one more axis.

    Parameters
    ----------
    graph
        A lowered graph in float32.
    given
        Shapes from the user, by input name; the name ``""`` stands for the only input that carries samples.

    Raises
    ------
    ModelError
        If there is no float input, or a dimension is unknown and not given.
    SettingsError
        If a given shape names no input or contradicts the file.
    """
    names = [value.name for value in graph.inputs if value.replaces is None]
    unknown = sorted(set(given) - set(names) - {""})
    if unknown and len(unknown) == len(given):
        found = ", ".join(map(repr, names))
        raise SettingsError(
            f"--input names {unknown[0]!r}, but the inputs are {found}; a shape without a name is that of the samples"
        )
    floats = [value for value in graph.inputs if value.dtype == np.float32 and value.value is None]
    if not floats:
        raise ModelError(_without_floats(graph))
    primary = _primary(floats, given)
    if "" in given:
        carrier = primary.name if primary.replaces is None else primary.replaces.ids
        given = {**{k: v for k, v in given.items() if k}, carrier: given[""]}
    _check_axes(primary, given)
    texts = [value.name for value in graph.inputs if value.dtype.kind not in "fiub"]
    if texts:
        raise ModelError(f"input {texts[0]!r} holds neither numbers nor booleans; only these can be fed")
    inputs = _with_known_symbols(graph.inputs, given)
    first = _dimensions(primary, given)[0]
    declared_batch = first if isinstance(first, int) and first > 0 else FREE_BATCH
    shapes: dict[str, tuple[int, ...]] = {}
    fills = _fills(graph)
    # Other networks of the same command may have it.
    batched, warnings = set(), [f"--input names {name!r}, which this network does not have" for name in unknown]
    look_ups = {value.name: value.replaces for value in graph.inputs if value.replaces is not None}
    ids = {look_up.ids for look_up in look_ups.values()}
    for value in inputs:
        dimensions = _dimensions(value, given)
        follows = value.name == primary.name or (bool(dimensions) and _same_batch(dimensions[0], first))
        if follows:
            batched.add(value.name)
            dimensions = (declared_batch, *dimensions[1:])
        shapes[value.name] = _complete(value, dimensions, primary, names)
        if value.name != primary.name and value.name not in look_ups and value.name not in ids and value.value is None:
            warnings.append(_assumption(value, follows, fills))
    return InputPlan(
        primary=primary.name,
        declared_batch=declared_batch,
        sample_shapes=shapes,
        batched=frozenset(batched),
        batch_is_free=not isinstance(first, int),
        fills=MappingProxyType(fills),
        look_ups=MappingProxyType(look_ups),
        values=MappingProxyType({value.name: value.value for value in inputs if value.value is not None}),
        warnings=tuple(warnings),
    )


def _without_floats(graph: Graph) -> str:
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
    for node in graph.nodes:
        if node.is_op(*_SAME_VALUES) and node.inputs[0] in roots:
            roots[node.outputs[0]] = roots[node.inputs[0]]
        elif node.is_op("Gather") and node.inputs[1] in roots:
            fills[roots[node.inputs[1]]] = 0
    for value in graph.inputs:
        if value.replaces is not None:
            fills[value.replaces.ids] = min(NO_PADDING, value.replaces.rows - 1)
    return fills


def _with_known_symbols(inputs: Sequence[GraphInput], given: Mapping[str, tuple[int, ...]]) -> list[GraphInput]:
    """Return the inputs with sizes for the symbols that the given shapes give one."""
    sizes: dict[int | str | None, int] = {}
    for value in inputs:
        found = zip(value.shape or (), given.get(value.name, ()), strict=False)
        sizes.update((symbol, size) for symbol, size in found if isinstance(symbol, str))
    return [
        value if value.shape is None else replace(value, shape=tuple(sizes.get(size, size) for size in value.shape))
        for value in inputs
    ]


def _check_axes(primary: GraphInput, given: Mapping[str, tuple[int, ...]]) -> None:
    axes = len(_dimensions(primary, given))
    if primary.shape is None and not axes:
        raise ModelError(
            f"the shape of input {primary.name!r} is unknown on every axis; "
            f"give it with --input {primary.name}=1x3x224x224"
        )
    if axes < 2:
        raise ModelError(
            f"input {primary.name!r} has {axes} axes; two or more are needed, of which the first is the batch"
        )


def _same_batch(dimension: int | str | None, first: int | str | None) -> bool:
    return dimension == first if isinstance(first, int) else not isinstance(dimension, int)


def _assumption(value: GraphInput, follows: bool, fills: Mapping[str, int]) -> str:
    if value.dtype == np.float32 and follows:
        return f"input {value.name!r} is fed Gaussian samples too"
    filled = "true" if value.dtype == np.bool_ else _IN_WORDS[fills.get(value.name, 1)]
    return f"input {value.name!r} ({value.dtype.name}) carries no samples and is filled with {filled}"


def _primary(floats: list[GraphInput], given: Mapping[str, tuple[int, ...]]) -> GraphInput:
    def size(value: GraphInput) -> tuple[int, int]:
        dimensions = _dimensions(value, given)
        known = [d for d in dimensions[1:] if isinstance(d, int)]
        return (len(dimensions), int(np.prod(known, dtype=np.float64)) if known else 0)

    return max(floats, key=size)  # the first of equals, as the file lists them


def _dimensions(value: GraphInput, given: Mapping[str, tuple[int, ...]]) -> tuple[int | str | None, ...]:
    shape: Sequence[int | str | None] | None = given.get(value.name, value.shape)
    if value.replaces is not None and value.replaces.ids in given and value.shape is not None:
        shape = (*given[value.replaces.ids], value.shape[-1])
    return () if shape is None else tuple(d if not isinstance(d, int) or d > 0 else None for d in shape)


def _complete(
    value: GraphInput, dimensions: tuple[int | str | None, ...], primary: GraphInput, names: list[str]
) -> tuple[int, ...]:
    declared = value.shape
    if declared is not None and len(declared) != len(dimensions):
        raise SettingsError(f"--input gives {value.name!r} {len(dimensions)} axes, but the model has {len(declared)}")
    for axis, (wanted, found) in enumerate(zip(dimensions, declared or (), strict=False)):
        if axis > 0 and isinstance(found, int) and found > 0 and wanted != found:
            raise SettingsError(
                f"--input gives axis {axis} of {value.name!r} size {wanted}, but the model fixes it to {found}"
            )
    unknown = [axis for axis, size in enumerate(dimensions) if not isinstance(size, int)]
    if unknown or (not dimensions and declared is None):
        where = f"axis {unknown[0]}" if unknown else "every axis"
        size = "128" if value.dtype.kind in "iu" else "224"
        example = "x".join(str(d) if isinstance(d, int) else size for d in dimensions) or "1x3x224x224"
        raise ModelError(
            f"the size of input {value.name!r} is unknown on {where}; give it with --input {value.name}={example}"
        )
    return tuple(d for d in dimensions if isinstance(d, int))
