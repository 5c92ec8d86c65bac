"""The small GroundingDINO that ships: how it is trained on toybirds, and what it must reach."""
