"""The environment's variables, all at once."""

import os
from collections.abc import Callable


def environment_variables(chosen: Callable[[str], bool] = lambda name: True) -> dict[str, str]:
    """A snapshot of `os.environ`, of the names that are `chosen`.

    Iterating over it fails when another thread, such as MLflow's telemetry, unsets a variable.
    """
    names = filter(chosen, list(os.environ))
    return {name: value for name in names if (value := os.environ.get(name)) is not None}
