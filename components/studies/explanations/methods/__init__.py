"""An explanation a file."""
