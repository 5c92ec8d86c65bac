"""Where things are kept: the home, artifacts, and what a record says of its origin."""
