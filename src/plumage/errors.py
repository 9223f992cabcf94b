"""One exception class a kind of mistake. Every message is one line: what was wrong, where, what would be right."""


class PlumageError(Exception):
    """Something that a user can cause and mend; a stage or command prints it as one line and exits with 1."""


class ConfigError(PlumageError):
    """A key of params.yaml is unknown, of a wrong type, or impossible."""


class DataError(PlumageError):
    """The photos, the data set or its split can't be used as they are."""


class PhotoError(PlumageError):
    """A file is not a whole photo."""


class WeightsError(PlumageError):
    """Pretrained weights can't be had, or don't fit the model."""


class ModelError(PlumageError):
    """A model's name or a saved model can't be used."""


class TrainingError(PlumageError):
    """Training can't go on."""


class TrackingError(PlumageError):
    """The MLflow store or registry can't be reached, or lacks what was asked for."""


class PipelineError(PlumageError):
    """What the pipeline made does not fit what it is to be made from, or can't be made again."""
