"""From a model file to the typed graph, within the limits of what a file may ask for."""
