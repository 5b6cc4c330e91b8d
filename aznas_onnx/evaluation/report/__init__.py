"""A page on benchmark scores, in Markdown."""
