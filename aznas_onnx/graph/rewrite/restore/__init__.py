"""Rules that restore folded batch normalisation."""
