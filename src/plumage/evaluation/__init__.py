"""Evaluation of a model on its test photos: metrics, tables, plots and the report."""
