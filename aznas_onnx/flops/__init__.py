"""Multiply-adds, parameters and activation sizes, per node, per operator and per group of nodes.

One MAC is one multiply-add. Counts are for one sample, whatever the batch size of the facts.
"""

from aznas_onnx.flops.costs import Costs, CountStatus, NodeCost
from aznas_onnx.flops.counting import count

__all__ = ["Costs", "CountStatus", "NodeCost", "count"]
