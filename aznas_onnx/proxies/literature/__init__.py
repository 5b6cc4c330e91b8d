"""Zero-cost proxies of other papers, over any network."""

from aznas_onnx.proxies.literature.records import GROUPS, LITERATURE

__all__ = ["GROUPS", "LITERATURE"]
