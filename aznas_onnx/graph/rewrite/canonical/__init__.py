"""Rules that give each computation one form."""
