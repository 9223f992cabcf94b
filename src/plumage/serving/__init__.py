"""Using a trained model on photos."""

from plumage.serving.predictor import Predictor, load_predictor

__all__ = ["Predictor", "load_predictor"]
