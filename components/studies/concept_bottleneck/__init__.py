"""SALF-CBM, LF-CBM and P-CBM: a layer of concepts that a sparse layer reads."""
