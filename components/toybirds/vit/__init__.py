"""The small transformer that ships: how it is trained to see parts of toybirds, and what it must reach."""
