"""Origin and content of constants."""
