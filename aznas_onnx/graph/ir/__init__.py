"""The typed graph: nodes, constants, tensor infos."""
