"""A study as a SQLite file."""
