"""Plumage: EfficientNet image classifiers as a DVC pipeline with MLflow tracking."""

__version__ = "0.1.0"
