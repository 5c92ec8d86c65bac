"""CLIP, and the formats that it is stored in."""
