"""Models: descriptions that import nothing heavy, and the networks that they build."""
