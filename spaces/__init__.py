"""The bundled search spaces and their registry."""

from aznas_onnx.spaces.base import GenotypeError, Space, SpaceOptions, choose
from aznas_onnx.spaces.building import as_user_error, build_source, quote
from aznas_onnx.spaces.network_files import NetworkFiles
from aznas_onnx.spaces.registry import SpaceRecord, get, records
from aznas_onnx.spaces.user_spaces import smoke_test

__all__ = [
    "GenotypeError",
    "NetworkFiles",
    "Space",
    "SpaceOptions",
    "SpaceRecord",
    "as_user_error",
    "choose",
    "build_source",
    "get",
    "quote",
    "records",
    "smoke_test",
]
