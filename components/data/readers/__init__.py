"""Layouts on disk: one file, one class, named after each other."""
