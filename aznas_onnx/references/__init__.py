"""Reference sets: stored scores that place a network in percentiles."""

from aznas_onnx.references.bundled import BUNDLED, find_reference
from aznas_onnx.references.placement import Placement, place, rank_in
from aznas_onnx.references.reference_set import Member, ReferenceSet, ReferenceSettings

__all__ = [
    "BUNDLED",
    "Member",
    "Placement",
    "ReferenceSet",
    "ReferenceSettings",
    "find_reference",
    "place",
    "rank_in",
]
