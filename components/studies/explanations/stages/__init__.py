"""What explanations share between trials."""
