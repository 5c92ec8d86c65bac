"""What says which patches a network decided by, and can be trained: one file, one class, named after each
other."""
