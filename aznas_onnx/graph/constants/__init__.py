"""What the values of a constant say of it, and where it comes from."""
