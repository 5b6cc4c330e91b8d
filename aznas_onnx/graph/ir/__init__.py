"""The typed graph: nodes, constants, what is known of each tensor."""
