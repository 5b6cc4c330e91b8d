"""The bundled search spaces, and how to add one."""

from aznas_onnx.spaces.base import GenotypeError, Space, choose, quote
from aznas_onnx.spaces.foreign import blamed, drawn, rehearse
from aznas_onnx.spaces.registry import SpaceRecord, get, records

__all__ = [
    "GenotypeError",
    "Space",
    "SpaceRecord",
    "blamed",
    "choose",
    "drawn",
    "get",
    "quote",
    "records",
    "rehearse",
]
