"""The model registry: versions, the promotion gate, model cards, lineage queries, the served model."""

import plumage.tracking  # noqa: F401  # its settings for MLflow come before MLflow
