"""The registered model as MLflow loads it. MLflow runs this file ("models from code"), so nothing is pickled.

Input: a column `image` with the bytes of whole photo files (base64 in JSON). Output: the column `prediction` with the
most probable class, then one column per class with its probability.

The model has its own copy of `plumage` in `code/`. Its `MLmodel` has the SHA-256 of each file that is loaded, and loading
stops at one that differs. So only the standard library, pandas and MLflow are imported before that check.
"""

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import all_suffixes
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import Model, set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

PREDICTION = "prediction"
ARTIFACTS, CODE = "artifacts", "code"
"""MLflow's folders in a model, of its weights and of its copy of `plumage`."""
HASHES = "sha256"
"""The key, in the metadata of `MLmodel`, of the SHA-256 of each file, by its path."""


def output_columns(classes: Sequence[str]) -> list[str]:
    """The model's output columns. The probability of a class called `prediction` is in `prediction (class)`."""
    return [PREDICTION, *(f"{name} (class)" if name == PREDICTION else name for name in classes)]


def find_changed_file(folder: Path, hashes: Mapping[str, str]) -> str | None:
    """Describe the first file below `folder` that is missing or has another SHA-256; None if all match.

    `hashes` are by the path in `folder`. The answer goes into an error message.
    """
    for name, registered in hashes.items():
        if not (folder / name).is_file():
            return f"{name} is missing; it was registered with SHA-256 {registered}"
        if (found := _sha256(folder / name)) != registered:
            return f"{name} has SHA-256 {found}, but was registered with {registered}"
    return None


class ServedModel(PythonModel):
    """A `Predictor` behind MLflow's interface."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights and description from the model's artifacts.

        Raises:
            MlflowException: a file is missing, not as it was registered, or one that was not registered.
        """
        folder = Path(__file__).parent
        # MLflow has put the code first in `sys.path`, where nothing may be found before the check, nor by others after it.
        sys.path = [entry for entry in sys.path if Path(entry).resolve() != (folder / CODE).resolve()]
        _check(folder)
        with _own_code(folder / CODE):
            from plumage.errors import PhotoError
            from plumage.inference.predictor import Predictor
            from plumage.models.saved_model import load_model

            self._predictor = Predictor(load_model(folder / ARTIFACTS))
            self._photo_error = PhotoError

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Predict the photos in the column `image`: one row per photo, the columns of `output_columns`."""
        photos = list(model_input["image"])
        for number, photo in enumerate(photos):
            if not isinstance(photo, bytes):  # text would be taken for the path of a file here
                problem = f"photo {number}: is {type(photo).__name__}; takes bytes, in JSON as base64"
                raise MlflowException.invalid_parameter_value(problem)
        try:
            probabilities = self._predictor.probabilities(photos)
        except self._photo_error as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        classes = self._predictor.classes
        prediction, *columns = output_columns(classes)
        table = pd.DataFrame(probabilities, columns=columns)
        table.insert(0, prediction, [classes[best] for best in probabilities.argmax(axis=1)])
        return table


def _check(folder: Path) -> None:
    """Raise an MlflowException if what would be loaded from `folder` is not what was registered."""
    hashes = (Model.load(folder).metadata or {}).get(HASHES)
    if not hashes:
        raise MlflowException(f"{folder}: its MLmodel no longer has the SHA-256 of its files")
    if problem := find_changed_file(folder, hashes) or _find_added_module(folder, hashes):
        raise MlflowException(f"{folder}: {problem}")


def _find_added_module(folder: Path, hashes: Mapping[str, str]) -> str | None:
    """Describe the first importable file in the model's code that was not registered; None if there is none."""
    for file in sorted((folder / CODE).rglob("*")):
        name = file.relative_to(folder).as_posix()
        if name not in hashes and name.endswith(tuple(all_suffixes())):
            return f"{name}, with SHA-256 {_sha256(file)}, was not registered with the model"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _own_code(folder: Path) -> Iterator[None]:
    """Import `plumage` from `folder`, even if one is imported already. Afterwards `import plumage` works as before.

    No bytecode is written: the folder may be the registry's own.
    """
    others, writes_none = _take_plumage(), sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = writes_none
        _take_plumage()
        sys.modules.update(others)


def _take_plumage() -> dict[str, ModuleType]:
    """Remove the modules of `plumage` from those imported, and return them."""
    names = [name for name in sys.modules if name.partition(".")[0] == "plumage"]
    return {name: sys.modules.pop(name) for name in names}


set_model(ServedModel())
