"""Detectors: a file each, named after its class."""
