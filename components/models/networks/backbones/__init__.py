"""What turns an image into features: one file, one class, named after each other."""
