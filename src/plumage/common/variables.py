"""The environment's variables, all at once."""

import os


def environment_variables() -> dict[str, str]:
    """A snapshot of `os.environ`. Iterating over it fails when another thread, such as MLflow's telemetry, unsets a variable."""
    return {name: value for name in list(os.environ) if (value := os.environ.get(name)) is not None}
