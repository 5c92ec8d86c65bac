"""Methods, stages, models, metrics and readers: everything that runs without Ray, SQL or MLflow."""
