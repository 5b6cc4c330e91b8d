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
        Number of nodes after functions are inlined and loops unrolled.
    tensor_elements
        Elements of any one tensor, for one sample.
    folded_elements
        Elements of a constant whose value is computed while the graph is read; larger ones stay symbolic.
    """

    file_bytes: int = 8 * 2**30
    weight_bytes: int = 64 * 2**30
    nodes: int = 100_000
    tensor_elements: int = 2**31
    folded_elements: int = 2**22
