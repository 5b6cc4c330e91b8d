"""How much a stranger's model may ask for."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on a model; beyond them it is refused with a message that names the bound.

    Attributes
    ----------
    file_bytes
        Size of the model file, external data not counted.
    weight_bytes
        All constants together, external data included. They are read only where needed.
    nodes
        Number of nodes, branches and loop bodies included, after functions are inlined.
    unrolled_nodes
        Number of nodes that loops may add when they are unrolled.
    constants
        Number of initialisers and other tensors in the file.
    tensor_elements
        Elements of any one tensor, for one sample.
    folded_elements
        Elements of a constant whose value is computed while the graph is read; larger ones stay symbolic, and so
        does everything once all that was computed exceeds eight times this.
    """

    file_bytes: int = 2**31  # what protobuf can hold
    weight_bytes: int = 64 * 2**30
    nodes: int = 50_000
    unrolled_nodes: int = 20_000
    constants: int = 100_000
    tensor_elements: int = 2**31
    folded_elements: int = 2**22
