"""Build networks without weights, as ONNX or as the typed graph."""
