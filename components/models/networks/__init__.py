"""Backbones and the networks that they build: a trunk, a pooling and a head."""
