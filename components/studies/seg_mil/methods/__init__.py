"""The method of the study."""
