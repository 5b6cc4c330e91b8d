"""The aznas command."""
