"""MLflow runs: the store, one run per pipeline execution, its tags, the lineage facts that it records, and the UI."""

import logging
import os
import sys

# MLflow reads these when it is first imported. A program that has imported MLflow itself keeps its own settings: there
# MLflow's entry point imports this package, whatever the program does.
if "mlflow" not in sys.modules:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "5")
    if os.environ.get("MLFLOW_LOGGING_LEVEL", "").upper() not in logging.getLevelNamesMapping():
        os.environ["MLFLOW_LOGGING_LEVEL"] = "WARNING"  # MLflow can't be imported with an unknown one
