"""The commands, by what they answer from."""
