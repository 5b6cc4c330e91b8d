"""Rewrites of a graph into canonical form."""
