"""A concept bottleneck a file."""
