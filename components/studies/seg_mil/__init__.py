"""SEG-MIL-CBM: segments as instances of a bag, pooled by attention over concepts."""
