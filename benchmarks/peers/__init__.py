"""Plain writings of the published steps of what cannot be installed, to time against."""
