"""The registered model as MLflow loads it. MLflow runs this file ("models from code"), so nothing is pickled.

Input: a column `image` with the bytes of whole photo files (base64 in JSON). Text is never taken for a path. Output: the
column `prediction` with the most probable class, then one column per class with its probability.

Whoever serves the model can change LIMITS, which MLflow calls the model's configuration. What is refused is an
InvalidRequest: status 400 and one line.

The model has its own copy of `plumage` in `code/`. Its `MLmodel` has the SHA-256 of each file that is loaded, and loading
stops at one that differs. So only the standard library, pandas and MLflow are imported before that check.
"""

import base64
import binascii
import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import all_suffixes
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
from mlflow.exceptions import INVALID_PARAMETER_VALUE, MlflowException
from mlflow.models import Model, set_model
from mlflow.pyfunc import PyFuncModel, scoring_server
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.pyfunc.scoring_server import InvocationsResponse
from mlflow.types import Schema

PREDICTION = "prediction"
ARTIFACTS, CODE = "artifacts", "code"
"""MLflow's folders in a model, of its weights and of its copy of `plumage`."""
HASHES = "sha256"
"""The key, in the metadata of `MLmodel`, of the SHA-256 of each file, by its path."""
SERVER = "mlflow.pyfunc.scoring_server.app"
"""The module that MLflow's server runs, and nothing else."""
LIMITS = {"max_photos": 1000, "max_bytes": 50_000_000, "max_pixels": 25_000_000}
"""Photos per request to a server, and bytes and pixels per photo; a JPEG's pixels count as reduced, unless it is progressive."""


class InvalidRequest(MlflowException):
    """A request that is refused, with the one line that says why."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem, INVALID_PARAMETER_VALUE)

    @property
    def message(self) -> str:
        """The line. MLflow's server assigns one with the whole request in front, which has no effect."""
        return str(self)

    @message.setter
    def message(self, longer: str) -> None:
        pass


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
        self._limits = _read_limits(context.model_config or {})
        with _own_code(folder / CODE):
            from plumage.common.memory import release_memory
            from plumage.data.sources.photo import format_of
            from plumage.errors import PhotoError
            from plumage.inference.predictor import Predictor
            from plumage.inference.request import read_request
            from plumage.models.model_files import read_model

            self._predictor = Predictor(read_model(folder / ARTIFACTS), max_pixels=self._limits["max_pixels"])
            self._photo_error, self._format_of = PhotoError, format_of
            self._read_request, self._release_memory = read_request, release_memory
        if SERVER in sys.modules:  # it offers no other way to read requests
            scoring_server.invocations = self._answer

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Predict the photos in the column `image`: one row per photo, the columns of `output_columns`.

        Raises:
            InvalidRequest: a value isn't a photo or exceeds one of LIMITS.
        """
        photos = [self._photo(value, number) for number, value in enumerate(model_input["image"])]
        with self._refusals():
            probabilities = self._predictor.probabilities(photos)
        classes = self._predictor.classes
        prediction, *columns = output_columns(classes)
        table = pd.DataFrame(probabilities, columns=columns)
        table.insert(0, prediction, [classes[best] for best in probabilities.argmax(axis=1)])
        return table

    def _photo(self, value: object, number: int) -> bytes:
        """The bytes of a photo's file. Base64 is decoded: MLflow's own reader leaves it in `inputs` and `instances`."""
        if not isinstance(value, bytes | bytearray | memoryview):  # text would be taken for the path of a file
            raise InvalidRequest(f"photo {number}: is {type(value).__name__}; takes bytes, in JSON as base64")
        photo = bytes(value)
        if self._format_of(photo) is None:
            with suppress(binascii.Error):
                photo = base64.b64decode(b"".join(photo.split()), validate=True)
        if len(photo) > self._limits["max_bytes"]:
            raise InvalidRequest(
                f"photo {number}: {len(photo):,} bytes; max_bytes takes at most {self._limits['max_bytes']:,}"
            )
        return photo

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Turn a PhotoError into an InvalidRequest."""
        try:
            yield
        except self._photo_error as error:
            raise InvalidRequest(str(error)) from None

    def _answer(self, body: bytes, content_type: str | None, model: PyFuncModel, schema: Schema) -> InvocationsResponse:
        """Answer a request to MLflow's server, in place of its own function.

        With that one a short request takes the memory of the machine, and what it can't read is answered with the whole
        request, a stack trace with this machine's paths, or status 500.
        """
        try:
            return self._predict_request(body, (content_type or "").partition(";")[0].strip().lower(), model)
        finally:
            self._release_memory()

    def _predict_request(self, body: bytes, media_type: str, model: PyFuncModel) -> InvocationsResponse:
        with self._refusals():
            photos = pd.Series(self._read_request(body, media_type, self._limits["max_photos"]), dtype=object)
        answer = StringIO()
        scoring_server.predictions_to_json(model.predict(photos.to_frame("image")), answer)
        return InvocationsResponse(answer.getvalue(), 200, scoring_server.CONTENT_TYPE_JSON)


def _read_limits(config: Mapping[str, Any]) -> dict[str, int]:
    """LIMITS, as `config` changes them. MlflowException if one isn't a positive integer."""
    limits = {key: config.get(key, default) for key, default in LIMITS.items()}
    for key, value in limits.items():
        if type(value) is not int or value < 1:
            raise MlflowException(f"{key} is {value!r}; takes an integer of 1 or more")
    return limits


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
