"""Zero-cost proxies of other papers, over any network. Importing this imports no torch; measuring with them does."""

from aznas_onnx.proxies.literature.registrations import GROUPS, LITERATURE

__all__ = ["GROUPS", "LITERATURE"]
