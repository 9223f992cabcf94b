"""The registered model as MLflow loads it. MLflow runs this file ("models from code"), so nothing is pickled.

Input: a column `image` with the bytes of whole photo files (base64 in JSON). Output: the column `prediction` with the
most probable class, then one column per class with its probability.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from plumage.errors import PhotoError
from plumage.inference.predictor import Predictor
from plumage.models.saved_model import load_model

PREDICTION = "prediction"


def output_columns(classes: Sequence[str]) -> list[str]:
    """The model's output columns. The probability of a class called `prediction` is in `prediction (class)`."""
    return [PREDICTION, *(f"{name} (class)" if name == PREDICTION else name for name in classes)]


class ServedModel(PythonModel):
    """A `Predictor` behind MLflow's interface."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights and description from the model's artifacts."""
        self.predictor = Predictor(load_model(Path(context.artifacts["weights"]).parent))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Predict the photos in the column `image`: one row per photo, the columns of `output_columns`."""
        photos = list(model_input["image"])
        try:
            for number, photo in enumerate(photos):
                if not isinstance(photo, bytes):  # text would be taken for the path of a file here
                    raise PhotoError(f"photo {number}: is {type(photo).__name__}; takes bytes, in JSON as base64")
            probabilities = self.predictor.probabilities(photos)
        except PhotoError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        classes = self.predictor.classes
        prediction, *columns = output_columns(classes)
        table = pd.DataFrame(probabilities, columns=columns)
        table.insert(0, prediction, [classes[best] for best in probabilities.argmax(axis=1)])
        return table


set_model(ServedModel())
