"""Roles of inputs, axes, outputs and constants."""
