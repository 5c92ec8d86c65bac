"""SAM and SAM 2: their checkpoints and what their decoders give."""
