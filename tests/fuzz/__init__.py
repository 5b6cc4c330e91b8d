"""Seeded mutations of small models: each must end in a result or in one clear error."""
