"""What stages have in common."""
