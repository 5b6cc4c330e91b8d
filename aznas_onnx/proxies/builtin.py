"""The proxies that come with the package, and their groups."""

from __future__ import annotations

from aznas_onnx.proxies.az import AZ, MACS
from aznas_onnx.proxies.from_blocks import BLOCKWISE, IDLE_BLOCKS
from aznas_onnx.proxies.literature import GROUPS, LITERATURE
from aznas_onnx.proxies.registry import ProxyRegistry
from aznas_onnx.proxies.structural import STRUCTURAL

__all__ = ["PROXIES"]

# Chosen on cells of NAS-Bench-201, and better than any published on others that were scored later (docs/proxies.md):
# benchmarks/choose_ensemble.py. None of the five costs another pass.
BEST = (
    *(proxy.name for proxy in AZ),
    "final_expressivity",
    "layers",
    "mean_path",
    "shortest_path",
    "spatial_depth",
)

PROXIES = ProxyRegistry(
    (*AZ, *BLOCKWISE, *STRUCTURAL, IDLE_BLOCKS, *LITERATURE),
    groups={
        "az": tuple(proxy.name for proxy in AZ),
        "best": BEST,
        "blockwise": tuple(proxy.name for proxy in BLOCKWISE),
        "structure": tuple(proxy.name for proxy in STRUCTURAL),
        "complexity": (MACS.name,),
        **GROUPS,
    },
)
"""All proxies, and groups of them: ``az`` is the four of AZ-NAS, ``best`` an ensemble of these and five more."""
