"""Converters, one module per family of operators; `aznas_onnx.convert.table` lists them all."""
