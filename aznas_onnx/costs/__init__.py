"""Count multiply-adds (MACs), parameters and activation sizes: per node, operator and group of nodes.

One MAC is one multiply-add. Counts are for one sample, whatever the batch size of the facts.
"""

from aznas_onnx.costs.counting import count
from aznas_onnx.costs.node_costs import Costs, CountStatus, NodeCost

__all__ = ["Costs", "CountStatus", "NodeCost", "count"]
