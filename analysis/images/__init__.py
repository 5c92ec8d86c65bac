"""Questions that are answered image by image, or vote by vote."""
