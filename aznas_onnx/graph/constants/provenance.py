"""The origin of constants, as far as the file records it.

Three things in a file separate trained constants from those of an exporter or author:

- PyTorch's default exporter lists the parameters, buffers and constants of the module, with their names.
- PyTorch's TorchScript exporter stores parameters and buffers as initialisers, and all other constants (numbers in the
  code, the ones and zeros of a normalisation without scale and shift) as Constant nodes. A file that stores all
  constants in one way gives no evidence.
- Results of shapes, ranges and single numbers in the file were not trained.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from functools import cached_property

import numpy as np

from aznas_onnx.graph.constants.content import Content, content_of
from aznas_onnx.graph.ir.graph import Constant, Graph, Storage
from aznas_onnx.operators.sets import MOVES_DATA, NORMALIZATIONS

__all__ = [
    "SIGNATURE_KEY",
    "Provenance",
    "Source",
    "is_made_by_exporter",
    "listed_parameters",
]

SIGNATURE_KEY = "pkg.torch.export.ExportedProgram.graph_signature"
_DECLARED = re.compile(r"(PARAMETER|BUFFER|CONSTANT_TENSOR) target='([^']+)'")
_INDEX = re.compile(r"\.\d+\.(?=[^.\d][^.]*\.)")  # the number of a layer that has parts
_EXPORTERS_OWN = re.compile(
    r"onnx::|val_\d+|_?t_\d+$|const(ant)?(_fold.*|_\d+)?$|[\d.:]+$|.*/Transpose|.*(_|:)transposed?\b", re.IGNORECASE
)
_MEAN = "running_mean"
_COMPUTED = "onnx::"  # the names of constants that the TorchScript exporter folds
_INDICES = (np.dtype(np.int64), np.dtype(np.int32))
_INDEX_ELEMENTS = 2**22


def is_made_by_exporter(name: str) -> bool:
    """Whether a name is an exporter's for a computed constant, and not the network's."""
    return _EXPORTERS_OWN.match(name) is not None


class Source(enum.Enum):
    """Who made a constant."""

    TRAINED = "trained"  # listed as a parameter
    KEPT = "kept"  # it lies where parameters and buffers lie, and other constants do not
    WRITTEN = "written"  # listed as something else than a parameter
    UNKNOWN = "unknown"


def listed_parameters(metadata: Mapping[str, str]) -> frozenset[str]:
    """Return the names of the parameters that a file lists; none where it lists none."""
    return frozenset(name for name, kind in _listed(metadata).items() if kind == "PARAMETER")


def _listed(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the module state that a file lists: names and kinds."""
    return {name: kind for kind, name in _DECLARED.findall(metadata.get(SIGNATURE_KEY, ""))}


def _is_dequantised(constant: Constant) -> bool:
    """Whether a constant of floats is stored as integers, behind what only moves it."""
    found: Constant | None = constant
    while found is not None and found.origin is not None:
        if found.origin.node.is_op("DequantizeLinear"):
            return True
        found = found.origin.inputs[0] if found.origin.node in MOVES_DATA and found.origin.inputs else None
    return False


class Provenance:
    """The origin of a graph's constants."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        listed = _listed(graph.metadata)
        # A Keras network stores its parameters twice: it computes with those that are listed as constants.
        is_used = any(kind == "PARAMETER" and name in graph.constants for name, kind in listed.items())
        self._declared: Mapping[str, str] = {
            name: kind for name, kind in listed.items() if is_used or kind != "CONSTANT_TENSOR"
        }

    @property
    def lists_parameters(self) -> bool:
        """Whether the file lists the network's parameters."""
        return bool(self._declared)

    def of(self, name: str, *, is_weight: bool = False) -> Source:
        """Return who made a constant of the graph.

        - `name`: Of the constant.
        - `is_weight`: Whether it multiplies the features: then a root of one value throughout is a weight of which the
          file has the shape alone, and not memory that a table was computed in.
        """
        constant = self._graph.constants[name]
        if not self._declared and constant.origin is None and constant.is_float and constant.sources == {name}:
            return _by_place(constant.storage, (name,))  # like most constants of a file
        roots = self._roots(constant)
        stored = _is_dequantised(constant)  # as integers, which are then no indices
        large = {name: root for name, root in roots.items() if (root.is_float or stored) and root.elements > 1}
        if constant.elements == 1:
            large = large or roots
        storages = {_storage(root) for root in large.values()}
        if storages == {Storage.NOWHERE}:
            return Source.WRITTEN
        kinds = {self._declared.get(root) for root in large}
        if "PARAMETER" in kinds:
            return Source.TRAINED
        if large and None not in kinds:
            return Source.WRITTEN
        place = storages.pop() if len(storages) == 1 and not self._declared else None
        if (source := _by_place(place, large)) is not Source.UNKNOWN:
            return source
        is_computed = not stored and _is_computed_from_shapes(constant, roots, is_weight)
        return Source.WRITTEN if is_computed else Source.UNKNOWN

    @cached_property
    def has_trained_normalisation(self) -> bool:
        """Whether any scale of a normalisation was trained: then one of ones was not."""
        return any(scale.storage is not None and _is_free(scale) for scale in self._scales)

    @cached_property
    def _scales(self) -> list[Constant]:
        nodes = (node for node in self._graph.nodes if node in NORMALIZATIONS)
        scales = (self._graph.constants.get(node.input(1)) for node in nodes)
        return [scale for scale in scales if scale is not None]

    @cached_property
    def holds_clones(self) -> bool:
        """Whether layers with equal numbers are several, which began as copies of one, as those of ``nn.Transformer``.

        In a network that was never trained the biases of copied layers are equal, too: TorchScript's exporter writes
        the second as the Identity of the first, the default one stores it once and lists both. A shared layer has one.
        """
        if not self._scales or self.has_trained_normalisation:
            return False
        constants = self._graph.constants
        written_twice = {
            node.inputs[0]
            for node in self._graph.nodes
            if node.is_op("Identity") and not node.outputs[0].startswith(_COMPUTED)
        }
        return any(
            (name in written_twice or self._listed_copies(name) > 1 or _is_identity(name, found)) and _is_free(found)
            for name, found in constants.items()
            if len(found.shape) == 1
        )

    def copies(self, name: str) -> int:
        """Return how many equal parameters of copied layers an exporter stored under one name."""
        if not self.holds_clones or self._listed_copies(name) == 1:
            return 1
        return self._listed_copies(name) if _is_free(self._graph.constants[name]) else 1

    def _listed_copies(self, name: str) -> int:
        """Return the number of listed parameters with equal names that the file stores under one name alone.

        A tensor of two modules is stored under its last name; the earlier names are the same parameter.
        """
        alike = self._families.get(_INDEX.sub(".#.", name), []) if self._declared.get(name) == "PARAMETER" else []
        later = alike[alike.index(name) + 1 :] if name in alike else []
        return 1 + sum(other not in self._graph.constants for other in later)

    @cached_property
    def _families(self) -> Mapping[str, list[str]]:
        """The listed parameters whose names differ in the number of the layer only, in order."""
        found: dict[str, list[str]] = {}
        for name, kind in self._declared.items():
            if kind == "PARAMETER" and _INDEX.search(name):
                found.setdefault(_INDEX.sub(".#.", name), []).append(name)
        return found

    def is_left_out(self, name: str) -> bool:
        """Whether a constant of one value is not among the parameters that a file lists."""
        constant = self._graph.constants.get(name)
        if not self._declared or constant is None or name in self._declared:
            return False
        return constant.elements > 1 and content_of(constant) is Content.UNIFORM

    @cached_property
    def explains_all(self) -> bool:
        """Whether the file lists the network's parameters and stores all vectors among them under their names.

        Then an unlisted vector of ones or zeros is not a parameter. Transposed matrices have new names, biases of zeros
        are missing, and normalisation is folded into other layers.
        """
        return bool(self._declared) and not self._unexplained

    @cached_property
    def _unexplained(self) -> frozenset[str]:
        parameters = {name for name, kind in self._declared.items() if kind == "PARAMETER"}
        missing = parameters - self._graph.constants.keys()
        kept = set()
        for name in missing:
            stem, _, last = name.rpartition(".")
            is_folded = stem in self._normalised
            is_dropped_bias = last == "bias" and f"{stem}.weight" in parameters - missing
            is_matrix = last == "weight" and f"{stem}.bias" not in missing
            if not (is_folded or is_dropped_bias or is_matrix):
                kept.add(name)
        return frozenset(kept)

    @cached_property
    def _normalised(self) -> frozenset[str]:
        """Names of the modules with a running mean."""
        return frozenset(name.rpartition(".")[0] for name in self._declared if name.rpartition(".")[2] == _MEAN)

    def declares_bias(self, weight: Constant | None) -> bool | None:
        """Return whether the network had a bias beside a weight; None where the file does not show it."""
        stems = self._stems(weight)
        return any(self._declared.get(f"{stem}bias") == "PARAMETER" for stem in stems) if stems else None

    def declares_scale(self, weight: Constant | None) -> bool:
        """Whether the batch normalisation that an exporter folded into a layer with this weight had scale and shift.

        Modules are listed in the order in which they were made, and a layer's normalisation is made next.
        """
        stems = self._stems(weight)
        trained = [stem for stem in self._normalised if self._declared.get(f"{stem}.weight") == "PARAMETER"]
        if not stems or not self._normalised or len(trained) == len(self._normalised):
            return True
        modules = list(dict.fromkeys(self._parameter_modules()))
        after = modules.index(stems[0][:-1]) + 1
        return after < len(modules) and modules[after] in trained

    def _parameter_modules(self) -> Iterable[str]:
        return (name.rpartition(".")[0] for name, kind in self._declared.items() if kind == "PARAMETER")

    def _stems(self, weight: Constant | None) -> list[str]:
        names = () if weight is None else sorted(weight.sources)
        return [name[: -len("weight")] for name in names if name.endswith("weight") and name in self._declared]

    def _roots(self, constant: Constant) -> dict[str, Constant]:
        constants = self._graph.constants
        return {name: root for name in sorted(constant.sources) if (root := constants.get(name)) is not None}


def _by_place(storage: Storage | None, names: Iterable[str]) -> Source:
    """Return the evidence of the place where constants are stored."""
    if storage is Storage.INITIALISER and not any(name.startswith(_COMPUTED) for name in names):
        return Source.KEPT
    return Source.WRITTEN if storage in (Storage.NODE, Storage.NOWHERE) else Source.UNKNOWN


def _is_free(constant: Constant) -> bool:
    return constant.is_float and content_of(constant) is Content.FREE


def _is_identity(name: str, constant: Constant) -> bool:
    """Whether a constant is written as another's Identity, under a parameter's name."""
    is_written_so = constant.origin is not None and constant.origin.node.is_op("Identity")
    return is_written_so and not name.startswith(_COMPUTED)


def _storage(root: Constant) -> Storage | None:
    """Return where a root is stored; TorchScript's exporter writes one of two equal parameters as an Identity."""
    while root.storage is None and root.origin is not None and root.origin.node.is_op("Identity"):
        inner = root.origin.inputs[0]
        if inner is None:
            break
        root = inner
    return root.storage


def _is_computed_from_shapes(constant: Constant, roots: Mapping[str, Constant], is_weight: bool) -> bool:
    """Whether arithmetic on shapes, ranges and single numbers made a constant, or it is memory of a computed size."""
    if not all(_says_nothing(root, is_weight) for root in roots.values()):
        return False
    return _has_arithmetic(constant) or any(root.is_float and root.elements > 1 for root in roots.values())


def _says_nothing(root: Constant, is_weight: bool) -> bool:
    if root.elements == 1:
        return True
    if not root.is_float:
        return root.dtype in _INDICES and root.elements <= _INDEX_ELEMENTS
    is_memory = root.origin is not None and root.origin.node.is_op("ConstantOfShape")  # of a size that was computed
    return is_memory and not is_weight and content_of(root) is Content.UNIFORM


def _has_arithmetic(constant: Constant) -> bool:
    seen: set[int] = set()
    pending = [constant]
    while pending:
        current = pending.pop()
        if id(current) in seen or current.origin is None:
            continue
        seen.add(id(current))
        if current.origin.node not in MOVES_DATA and not current.origin.node.is_op("ConstantOfShape"):
            return True
        pending.extend(operand for operand in current.origin.inputs if operand is not None)
    return False
