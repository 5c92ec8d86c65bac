"""What concept bottlenecks share between trials."""
