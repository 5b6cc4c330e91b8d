"""Results of the block finder."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from aznas_onnx.graph.ir.near_miss import NearMiss

__all__ = ["Block", "BlockKind", "Blocks"]


class BlockKind(str, enum.Enum):
    """The kind of a primary block, by its structure."""

    STEM = "stem"
    CONV = "conv"  # one weighted operator of a plain chain, with its normalisation and activation
    SEPARABLE = "separable"  # depthwise and pointwise convolution
    INVERTED_RESIDUAL = "inverted residual"  # expand, depthwise, project; with or without the skip
    RESIDUAL = "residual"  # paths that meet in a sum, one of them a skip
    CELL = "cell"  # several weighted paths that meet in sums
    INCEPTION = "inception"  # several weighted paths that meet in a concatenation
    DENSE = "dense"  # the input itself concatenated with new features
    ATTENTION = "attention"  # a residual whose branch mixes positions with data-dependent weights
    MLP = "mlp"  # a residual of linear layers on tokens
    RECURRENT = "recurrent"  # a recurrent layer over all its steps, with or without a skip around it
    TRANSITION = "transition"  # changes resolution or width between stages
    HEAD = "head"  # the last feature map before pooling and the classifier
    DECLARED = "declared"  # named by the model's metadata or by --blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One primary block.

    Attributes
    ----------
    index
        Position among the blocks, from 0.
    name
        Readable and unique; taken from node names where they agree, else made from kind and index.
    output
        Tensor that is the block's feature map f_l.
    nodes
        Names of the nodes that compute `output` from the previous blocks' outputs, in graph order.
    channel_axis
        Axis of the channels in `output`; the other axes are batch and positions.
    reason
        Why this is a block, in words for the user.
    batch_axis
        Axis of the batch in `output`: the first one but in time-major networks, or where the network has no batch.
    """

    index: int
    name: str
    kind: BlockKind
    output: str
    nodes: tuple[str, ...]
    channel_axis: int
    reason: str
    batch_axis: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """The primary blocks of a model, in dataflow order.

    Attributes
    ----------
    blocks
        At least one.
    is_transformer
        True where attention and MLP residuals make up the network: such a network runs in eval mode and has no
        progressivity (paper, footnote 1).
    warnings
        Doubts about the division, in words for the user.
    near_misses
        Sums and concatenations that end no block of their own, with the reason.
    """

    blocks: tuple[Block, ...]
    is_transformer: bool
    warnings: tuple[str, ...] = ()
    near_misses: tuple[NearMiss, ...] = ()
