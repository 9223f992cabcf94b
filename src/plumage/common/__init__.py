"""Helpers for every layer: paths, files, progress, processor cores, and DVC's own state."""
