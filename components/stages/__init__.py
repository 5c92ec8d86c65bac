"""Stages: what several trials can share, as pure maps from images (or texts) to columns."""
