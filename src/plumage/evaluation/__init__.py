"""EvaluationResult: predictions, metrics, tables, pictures and the report."""
