"""Box segmenters: a file each, named after its class."""
