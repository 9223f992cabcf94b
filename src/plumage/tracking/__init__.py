"""Everything that touches MLflow: the store, a pipeline execution's run, the model registry and the served model."""
