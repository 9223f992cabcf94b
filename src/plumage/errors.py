"""One exception class per kind of mistake. Every message is one line: what was wrong, where, what would be right."""

from collections.abc import Sequence


class PlumageError(Exception):
    """A mistake that the user can correct. Stages and commands print it as one line, and exit with 1.

    `listed` are lines printed below, such as one per refused photo.
    """

    def __init__(self, message: str = "", listed: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message, self.listed = message, listed

    def __str__(self) -> str:
        return "\n  ".join([self.message, *self.listed])


class ConfigError(PlumageError):
    """A key of params.yaml is unknown, or its value has the wrong type or is impossible."""


class ChangedError(PlumageError):
    """Parameters, code or inputs of a stage are no longer what it ran with, or not what the stages before it ran with."""


class DataError(PlumageError):
    """The photos, the data set or its split can't be used."""


class PhotoError(PlumageError):
    """A file is not a complete photo."""


class WeightsError(PlumageError):
    """Pretrained weights are unavailable, or don't fit the model."""


class ModelError(PlumageError):
    """A model name is unknown, or a saved model can't be used."""


class PredictionFileError(PlumageError):
    """A file of predictions can't be continued with what would be written into it."""


class TrainingError(PlumageError):
    """Training can't continue."""


class TrackingError(PlumageError):
    """The MLflow store or registry can't be reached, or doesn't have what was asked for."""


class NoStoreError(TrackingError):
    """There is no MLflow store yet, so it has nothing that was asked for."""


class PipelineError(PlumageError):
    """The pipeline's outputs don't match their inputs, or can't be reproduced."""


class ProjectError(PlumageError):
    """No project in the working directory or above it, or one whose files are in a merge conflict."""


class GitError(PlumageError):
    """Git is not installed, refuses the repository, or fails."""
