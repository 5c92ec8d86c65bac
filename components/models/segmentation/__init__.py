"""Segmenters, detectors and box segmenters: from an image to masks."""
