"""A way of fine-tuning a file."""
