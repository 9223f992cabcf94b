"""The model registry: versions, the promotion gate, model cards, lineage queries, the served model."""
