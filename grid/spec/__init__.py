"""Experiments as users write them, checked."""
