"""What fine-tuning methods share between trials."""
