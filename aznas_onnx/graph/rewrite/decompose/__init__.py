"""Rules that decompose compound operators into standard ones."""
