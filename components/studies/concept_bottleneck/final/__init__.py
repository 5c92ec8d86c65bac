"""The final layer: sparse, dense or with a residual, and edits of its weights."""
