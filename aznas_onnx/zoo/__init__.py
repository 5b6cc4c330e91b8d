"""Networks of timm and torchvision by name (`timm:resnet50`): built with random weights, exported, and cached."""

from aznas_onnx.zoo.cached_export import export_missing, exported, file_of
from aznas_onnx.zoo.names import ZooName, is_name

__all__ = ["ZooName", "export_missing", "exported", "is_name", "file_of"]
