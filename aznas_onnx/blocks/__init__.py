"""Find the primary blocks of a network in the structure of its graph."""

from aznas_onnx.blocks.dataflow import recurrent_weights
from aznas_onnx.blocks.find import find_blocks
from aznas_onnx.blocks.types import Block, BlockKind, Blocks

__all__ = ["Block", "BlockKind", "Blocks", "find_blocks", "recurrent_weights"]
