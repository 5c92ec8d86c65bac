"""What cuts an image into segments: one file, one class, named after each other."""
