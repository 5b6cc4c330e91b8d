"""The bundled search spaces and their registry."""

from aznas_onnx.spaces.base import GenotypeError, Space, choose, quote
from aznas_onnx.spaces.registry import SpaceRecord, get, records
from aznas_onnx.spaces.user_spaces import as_user_error, build_source, smoke_test

__all__ = [
    "GenotypeError",
    "Space",
    "SpaceRecord",
    "as_user_error",
    "choose",
    "build_source",
    "get",
    "quote",
    "records",
    "smoke_test",
]
