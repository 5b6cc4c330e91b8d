"""Load a model file into the typed graph, within limits."""
