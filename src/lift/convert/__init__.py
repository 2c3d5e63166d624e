"""Weights of the tower to and from other libraries, and the paper's own checkpoints."""
