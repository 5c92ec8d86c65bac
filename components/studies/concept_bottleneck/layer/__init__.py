"""The concept layer: how it is trained to see what CLIP sees, and how its maps are pooled."""
