"""Infer the shape, dtype and small constant values of every tensor, at any batch size."""
