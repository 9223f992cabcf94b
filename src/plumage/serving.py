"""Using a trained model on photos."""

import tempfile
from pathlib import Path

from plumage.common.paths import project_root
from plumage.inference.predictor import Predictor
from plumage.models.saved_model import load_model

__all__ = ["Predictor", "load_predictor"]


def load_predictor(source: str | Path, device: str = "cpu") -> Predictor:
    """The model in a folder ("models"), or one of the registry ("models:/bird-classifier@champion", "models:/name/3").

    No code of a registered model runs here: only its weights and description are fetched.

    Raises:
        ModelError, WeightsError: the folder holds no whole model.
        TrackingError: the registry can't be reached or has no such model; the message says what it has.
    """
    if not str(source).startswith("models:/"):
        return Predictor(load_model(Path(source)), device)
    from plumage.registry.register import fetch_model  # MLflow takes seconds to import

    with tempfile.TemporaryDirectory() as folder:
        return Predictor(load_model(fetch_model(str(source), project_root(), Path(folder))), device)
