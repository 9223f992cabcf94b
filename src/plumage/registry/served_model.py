"""The registered model as MLflow loads it: this file is its code ("models from code"), so nothing of it is pickled.

Input: a column `image` of whole photo files' bytes (base64 in JSON). Output: a column a class, its probability.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from plumage.errors import PhotoError
from plumage.inference.predictor import Predictor
from plumage.models.saved_model import load_model


class ServedModel(PythonModel):
    """A `Predictor` behind MLflow's interface."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights and description that lie among the model's files."""
        self.predictor = Predictor(load_model(Path(context.artifacts["weights"]).parent))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Probabilities of the photos in the column `image`: a row a photo, a column a class."""
        try:
            probabilities = self.predictor.probabilities(list(model_input["image"]))
        except PhotoError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        return pd.DataFrame(probabilities, columns=self.predictor.classes)


set_model(ServedModel())
