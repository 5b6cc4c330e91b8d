"""The proxies that come with the package, and their groups."""

from __future__ import annotations

from aznas_onnx.proxies.az import AZ, MACS
from aznas_onnx.proxies.from_blocks import BLOCKWISE, IDLE_BLOCKS
from aznas_onnx.proxies.literature import GROUPS, LITERATURE
from aznas_onnx.proxies.registry import ProxyRegistry, split_weight
from aznas_onnx.proxies.structural import STRUCTURAL

__all__ = ["KIND_TRAITS", "PROXIES"]

# Chosen on cells of NAS-Bench-201, and better than any published on others that were scored later (docs/proxies.md):
# benchmarks/choose_ensemble.py.
BEST_NB201 = (
    *(proxy.name for proxy in AZ),
    "final_expressivity",
    "layers",
    "mean_path",
    "shortest_path",
    "spatial_depth",
)

# By what varies among candidates (aznas_onnx/ranking/kinds.py); benchmarks/choose_by_kind.py chose them.
BY_KIND = {
    "best-transformers": ("effective_rank", "layer_macs", "spectral_capacity:2"),
    "best-resolutions": (
        *("expressivity", "trainability", "macs", "bottleneck", "flatness", "effective_rank", "layer_macs"),
        "activations:2",
    ),
    "best-widths": (
        *("expressivity", "bottleneck", "flatness", "params", "layer_macs", "spectral_capacity"),
        "effective_rank:2",
    ),
    "best-edges": (
        *("expressivity", "trainability", "bottleneck", "flatness", "effective_rank", "layers", "mean_path"),
        *("shortest_path", "spatial_depth", "spectral_capacity"),
    ),
    "best-wiring": (
        *("expressivity", "trainability", "bottleneck", "flatness", "effective_rank", "layers", "mean_path"),
        *("spectral_capacity", "macs:2", "spatial_depth:2", "spatial_layers:2"),
    ),
    "best-stages": ("flatness:2", "mean_path", "activations", "spectral_capacity"),
}
KIND_TRAITS = ("final_positions", "depth", "block_count", "params", "live_params")
"""The proxies of the graph that tell these kinds apart, beside whether progressivity applies."""
# All that tells a kind, or counts for one. None costs another pass.
_COUNTED = (split_weight(member)[0] for members in BY_KIND.values() for member in members)
BEST = tuple(dict.fromkeys(("progressivity", *KIND_TRAITS, *_COUNTED)))
# One set for tasks with an output for each position, where depth hurts and resolution counts: docs/truth.md.
BEST_DENSE = (
    *("bottleneck", "flatness", "effective_rank", "shortest_path", "spatial_layers", "activations"),
    "layer_macs:2",
)

PROXIES = ProxyRegistry(
    (*AZ, *BLOCKWISE, *STRUCTURAL, IDLE_BLOCKS, *LITERATURE),
    groups={
        "az": tuple(proxy.name for proxy in AZ),
        "best": BEST,
        **BY_KIND,
        "best-dense": BEST_DENSE,
        "best-nb201": BEST_NB201,
        "blockwise": tuple(proxy.name for proxy in BLOCKWISE),
        "structure": tuple(proxy.name for proxy in STRUCTURAL),
        "complexity": (MACS.name,),
        **GROUPS,
    },
)
"""All proxies, and groups of them: ``az`` is the four of AZ-NAS, ``best`` those that count for some candidates."""
