"""Methods: one file, one class of knobs and behaviour, named after each other."""
