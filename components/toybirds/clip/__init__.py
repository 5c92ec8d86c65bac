"""The small CLIP that ships: how it is trained on captioned toybirds, and what it must reach."""
