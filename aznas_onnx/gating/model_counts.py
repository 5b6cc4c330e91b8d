"""Counts and structure of a model, for the exact checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from aznas_onnx.costs import Costs, count
from aznas_onnx.gating.file_hashes import FileHashes
from aznas_onnx.gating.git_revision import LocatedFile
from aznas_onnx.graph import Limits, Model
from aznas_onnx.graph.files.interface import Interface, Port
from aznas_onnx.graph.rewrite.passes import lost_quantisation
from aznas_onnx.limits import reading
from aznas_onnx.scoring import ScoreSettings
from aznas_onnx.structure import measure_structure

__all__ = ["ModelCounts", "ReadModel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCounts:
    """Counts of one model. A MAC is a multiply-add; counts are for one sample.

    - `model`: Its path, or its name in a revision.
    - `path`: Where its file is.
    - `hashes`: Of its files.
    - `interface`: What it takes and returns; the shapes of outputs are complete as far as they are known.
    - `macs`, `params`, `activation_bytes`: As `aznas inspect` counts them.
    - `depth`, `shortest`: Layers with weights on the longest and on the shortest path through the network.
    - `input_shape`: Shape of one sample of the input with the samples.
    - `run_shapes`: Shapes of all inputs for a latency measurement of `run_batch` samples.
    - `only_batch`: The only batch size that the file works at, if there is one.
    - `changes`, `warnings`: Those of its graph, in words for the user.
    """

    model: str
    path: str
    hashes: FileHashes
    interface: Interface
    macs: int
    params: int
    activation_bytes: int
    depth: int
    shortest: int
    input_shape: tuple[int, ...]
    run_shapes: Mapping[str, tuple[int, ...]]
    run_batch: int = 1
    only_batch: int | None = None
    changes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def is_smaller_than(self, other: ModelCounts) -> bool:
        """Whether it has fewer MACs or parameters, and not more of the others."""
        sizes, others = (self.macs, self.params), (other.macs, other.params)
        return sizes != others and all(mine <= theirs for mine, theirs in zip(sizes, others, strict=True))

    @property
    def shortcuts(self) -> float:
        """The share of the longest path that the shortest one leaves out: 0 for a plain chain."""
        return 1 - self.shortest / self.depth if self.depth else 0.0


class ReadModel(NamedTuple):
    """A model as it was read, and its counts: all that a gate reads of a file, once."""

    counts: ModelCounts
    model: Model
    costs: Costs

    @classmethod
    def of(cls, file: LocatedFile, settings: ScoreSettings, limits: Limits) -> ReadModel:
        """Read a model as it is scored with these settings; raise ModelError if it cannot be read."""
        with file.named(), reading(limits):
            model = replace(settings.read(file.path, limits), source=file.name)
            costs = count(model)
            structure = measure_structure(model, costs)
        plan = model.inputs
        counts = ModelCounts(
            model=model.source,
            path=file.path,
            hashes=FileHashes.of(file.path, model.data_files),
            interface=_complete(model),
            macs=costs.macs,
            params=costs.params,
            activation_bytes=costs.activation_bytes,
            depth=structure.depth,
            shortest=structure.shortest_path,
            input_shape=plan.sample_shape,
            run_shapes=plan.shapes(plan.run_batch),
            run_batch=plan.run_batch,
            only_batch=plan.declared_batch if model.fixed_batch else None,
            changes=model.changes,
            warnings=(*_judged_otherwise(model), *model.warnings, *costs.warnings),
        )
        return cls(counts, model, costs)


def _judged_otherwise(model: Model) -> tuple[str, ...]:
    return ("judged without its quantisation",) if lost_quantisation(model.changes) else ()


def _complete(model: Model) -> Interface:
    """Return a file's interface with the sizes of its outputs for one sample where it leaves them open."""
    found = model.interface
    ends = model.graph.outputs
    if len(ends) != len(found.outputs):  # the network ends elsewhere
        return found
    outputs = tuple(_sized(port, end, model) for port, end in zip(found.outputs, ends, strict=True))
    return replace(found, outputs=outputs)


def _sized(port: Port, tensor: str, model: Model) -> Port:
    """Return an output with the inferred shape of its tensor, whose batch is open."""
    info = model.infos.get(tensor)
    if info is None or info.shape is None or (port.shape is not None and len(port.shape) != len(info.shape)):
        return port
    axis = model.layout.batch_axes.get(tensor, 0) if model.inputs.has_batch else None
    has_batch = axis is not None and axis < len(info.shape) and info.shape[axis] == model.infos.batch_size
    shape = tuple(None if has_batch and place == axis else size for place, size in enumerate(info.shape))
    return replace(port, shape=shape)
