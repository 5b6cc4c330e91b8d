"""Zero-cost proxies: the registry, the built-in ones, and the passes that measure them.

Importing this package does not import torch; :mod:`aznas_onnx.proxies.engine.blockpass` does.
"""

from aznas_onnx.proxies.az import AZ
from aznas_onnx.proxies.builtin import PROXIES
from aznas_onnx.proxies.engine.evidence import BlockEvidence, Evidence, Outcome, StatisticResult
from aznas_onnx.proxies.engine.statistic import NetworkStatistic, value
from aznas_onnx.proxies.proxy import Direction, Need, Proxy
from aznas_onnx.proxies.registry import ProxyRegistry, is_reference
from aznas_onnx.proxies.user_proxies import USER_PROXIES, StoredProxy

__all__ = [
    "AZ",
    "USER_PROXIES",
    "PROXIES",
    "BlockEvidence",
    "Direction",
    "Evidence",
    "StatisticResult",
    "StoredProxy",
    "NetworkStatistic",
    "Need",
    "Outcome",
    "Proxy",
    "ProxyRegistry",
    "is_reference",
    "value",
]
