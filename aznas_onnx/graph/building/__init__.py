"""Writing networks without weights, as ONNX or straight as the typed graph."""
