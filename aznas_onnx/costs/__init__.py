"""Count multiply-adds (MACs), parameters and activation sizes: per node, operator and group of nodes.

One MAC is one multiply-add. Counts are MACs, not FLOPs, for one sample.
"""

from aznas_onnx.costs.counting import count
from aznas_onnx.costs.node_costs import Costs, CountStatus, NodeCost

__all__ = ["Costs", "CountStatus", "NodeCost", "count"]
