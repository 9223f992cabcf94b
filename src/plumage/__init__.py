"""Plumage: EfficientNet image classifiers as a DVC pipeline with MLflow tracking."""

import os

__version__ = "0.1.0"

# OpenMP's threads spin while they wait for each other. Where other processes keep one from running, the rest would spend a core's time on
# that. torch's OpenMP (GNU) reads this when it is loaded, so it is set before any import of torch; an idle machine is as fast.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
