"""The small SAM that ships: how it is trained on the parts of toybirds, and what it must reach."""
