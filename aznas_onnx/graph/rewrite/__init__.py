"""Rewrite a graph into canonical form."""
