"""Render results and progress."""
