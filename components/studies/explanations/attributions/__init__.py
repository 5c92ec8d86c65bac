"""What says which pixels a network decided by: one file, one class, named after each other."""
