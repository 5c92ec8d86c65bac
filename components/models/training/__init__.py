"""How a backbone is trained to classify."""
