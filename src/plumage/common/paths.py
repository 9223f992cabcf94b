"""Every path that a stage reads or writes, once: relative to the folder that the stage runs in."""

from pathlib import Path

PARAMS = Path("params.yaml")
DVC_YAML = Path("dvc.yaml")
DVC_LOCK = Path("dvc.lock")
CHECKED = Path("reports/checked.txt")

DATA = Path("data")
DATASET = DATA / "dataset"
SPLITS = DATA / "splits.csv"
LABELS = DATA / "labels.csv"
DOWNLOADS = DATA / "downloads"
UNPACKED = DATA / ".unpacked.tar.tmp"

MODELS = Path("models")
WEIGHTS = MODELS / "model.safetensors"
DESCRIPTION = MODELS / "model.json"
RUN = MODELS / "run.json"

REPORTS = Path("reports")
DATA_REPORT = REPORTS / "data.json"
DATA_PAGE = REPORTS / "data.html"
SPLIT_REPORT = REPORTS / "split.json"
HISTORY = REPORTS / "history.csv"
METRICS = REPORTS / "metrics.json"
CONFUSION = REPORTS / "confusion.csv"
PER_CLASS = REPORTS / "per_class.csv"
PREDICTIONS = REPORTS / "predictions.csv"
FOLDS = REPORTS / "folds.csv"
SLICES = REPORTS / "slices.csv"
LABEL_ERRORS = REPORTS / "label_errors.csv"
PLOTS = REPORTS / "plots"
PLOT_DATA = REPORTS / "plot_data"
REPORT_PAGE = REPORTS / "report.html"
REGISTRY = REPORTS / "registry.json"

MLFLOW_DB = Path("mlflow.db")
MLFLOW_ARTIFACTS = Path("mlartifacts")
OUTBOX = Path(".mlflow-waiting")
CHECKPOINTS = Path(".checkpoints")
DVC_FOLDER = Path(".dvc")
DVC_TMP = DVC_FOLDER / "tmp"
EXPERIMENTS = DVC_TMP / "exps"
"""DVC's copies of the repository, in which it runs experiments."""
