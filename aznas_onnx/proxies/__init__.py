"""Zero-cost proxies: the registry, the built-in ones, and the passes that measure them.

Importing this package does not import torch; :mod:`aznas_onnx.proxies.engine.blockpass` does.
"""

from aznas_onnx.proxies.az import AZ, MACS
from aznas_onnx.proxies.engine.evidence import BlockEvidence, Evidence, Outcome, StatisticResult
from aznas_onnx.proxies.engine.statistic import NetworkStatistic, value
from aznas_onnx.proxies.from_blocks import BLOCKWISE, IDLE_BLOCKS
from aznas_onnx.proxies.literature import GROUPS, LITERATURE
from aznas_onnx.proxies.proxy import Direction, Need, Proxy
from aznas_onnx.proxies.registry import ProxyRegistry, is_reference
from aznas_onnx.proxies.structural import STRUCTURAL
from aznas_onnx.proxies.user_proxies import USER_PROXIES, directions_of, without_references

__all__ = [
    "AZ",
    "USER_PROXIES",
    "PROXIES",
    "BlockEvidence",
    "Direction",
    "Evidence",
    "StatisticResult",
    "NetworkStatistic",
    "Need",
    "Outcome",
    "Proxy",
    "ProxyRegistry",
    "directions_of",
    "is_reference",
    "value",
    "without_references",
]

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
