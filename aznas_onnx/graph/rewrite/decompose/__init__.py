"""Rules that write compound operators as standard ones."""
