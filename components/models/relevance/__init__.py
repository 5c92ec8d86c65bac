"""Which patches a vision transformer decides by."""
