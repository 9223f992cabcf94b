"""The public way to use a trained model on photos."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plumage.common.project import store_root
from plumage.inference.predictor import Predictor
from plumage.models.model_files import read_model

__all__ = ["Predictor", "load_predictor"]


def load_predictor(source: str | Path, device: str = "cpu") -> Predictor:
    """Load a model from a folder ("models") or the registry ("models:/bird-classifier@champion", "models:/NAME/3").

    A registered model's own code does not run. Its weights and description must have the SHA-256 in its version's tags.

    Raises:
        ModelError, WeightsError: the folder does not hold a complete model, or a file is not the one that was registered.
        TrackingError: the registry can't be reached or has no such model; the message lists what exists.
    """
    with model_folder(source) as folder:
        model = read_model(folder)
    if device == "cpu":
        return Predictor(model)
    from plumage.inference.on_device import network_on  # torch takes seconds to import

    return Predictor(model, network=network_on(device, model))


@contextmanager
def model_folder(source: str | Path) -> Iterator[Path]:
    """Yield the folder of a model that `load_predictor` takes; a registered one is fetched into a temporary folder.

    Raises:
        ModelError, TrackingError: as `load_predictor`, for a registered model.
    """
    if not str(source).startswith("models:/"):
        yield Path(source)
        return
    from plumage.registry.versions import fetch_model  # MLflow takes seconds to import

    with tempfile.TemporaryDirectory() as folder:
        yield fetch_model(str(source), store_root(), Path(folder))
