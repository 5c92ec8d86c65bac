"""Masks, crops, frames, places and bags: arithmetic on pixels, without a model."""
