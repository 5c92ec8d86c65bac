"""A baseline a file."""
