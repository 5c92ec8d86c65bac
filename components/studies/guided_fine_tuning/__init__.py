"""CFT and what it is compared with: fine-tuning that moves relevance onto masks."""
