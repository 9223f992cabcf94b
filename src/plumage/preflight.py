"""Find what would stop a later stage before the pipeline starts: DVC removes a stage's outputs before it runs."""

from collections.abc import Callable
from pathlib import Path

from plumage.common.extras import check_source
from plumage.config import Model, Params, Train
from plumage.errors import ConfigError, PlumageError


def check_feasible(params: Params, root: Path) -> None:
    """Check what depends on this machine: the source's package, the device and pretrained weights.

    The repository's `root` is where weights are.

    Raises:
        PlumageError: one of them can't be used; all that can't are listed.
    """
    checks: list[Callable[[], None]] = [
        lambda: check_source(params.data.source),
        lambda: _check_device(params.train),
        lambda: _check_weights(params.model, root),
    ]
    problems = []
    for check in checks:
        try:
            check()
        except PlumageError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(problems[0], problems[1:])


def _check_device(train: Train) -> None:
    if train.device not in ("auto", "cpu"):  # importing torch takes seconds
        from plumage.training.hardware import choose_device

        choose_device(train.device)


def _check_weights(model: Model, root: Path) -> None:
    if weights := model.weights_from(root):
        from plumage.models.factory import create_model

        create_model(model.name, 2, weights)
