"""The HTML report of an experiment."""
