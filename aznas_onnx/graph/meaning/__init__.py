"""What inputs, axes, outputs and constants of a graph stand for."""
