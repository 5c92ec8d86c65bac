"""Data sets that the repository draws itself."""
