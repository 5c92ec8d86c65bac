"""MLflow as a mirror of the results store."""
