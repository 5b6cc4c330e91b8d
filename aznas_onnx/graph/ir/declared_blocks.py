"""What the metadata of a file declares: its primary blocks, and that it is a transformer."""

from __future__ import annotations

import json
from collections.abc import Mapping

from aznas_onnx.errors import ModelError

__all__ = ["BLOCKS_KEY", "TRANSFORMER_KEY", "declared_blocks", "declares_transformer"]

BLOCKS_KEY = "aznas.blocks"  # metadata key: JSON list of the tensors that are the primary blocks' outputs, in order
TRANSFORMER_KEY = "aznas.transformer"  # metadata key: "true" in a file with declared blocks that is a transformer
_MOST_BLOCKS = 4096


def declared_blocks(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Return the block outputs that a model's metadata declares, in order; empty where it declares none.

    Raises ModelError if the entry is not a JSON list of strings, or of too many.
    """
    text = metadata.get(BLOCKS_KEY)
    if text is None:
        return ()
    try:
        names = json.loads(text)
    except (ValueError, RecursionError) as error:  # no JSON, a number of a million digits, nested too deep
        raise ModelError(f"metadata {BLOCKS_KEY!r} is not JSON; a list of tensor names was expected") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelError(f"metadata {BLOCKS_KEY!r} is not a list of tensor names")
    if len(names) > _MOST_BLOCKS:
        raise ModelError(f"metadata {BLOCKS_KEY!r} names {len(names):,} blocks, above the limit of {_MOST_BLOCKS:,}")
    return tuple(names)


def declares_transformer(metadata: Mapping[str, str]) -> bool:
    """Return whether a model's metadata declares it to be a transformer, which the structure then need not show."""
    return metadata.get(TRANSFORMER_KEY) == "true"
