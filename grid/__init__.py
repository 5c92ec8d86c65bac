"""The experiment grid: spec, plan, stages on Ray Data, trials on Ray Tune, results in SQL and MLflow."""
