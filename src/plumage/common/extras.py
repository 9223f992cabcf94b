"""Packages that only some projects need, and the extras of Plumage that install them."""

from importlib.util import find_spec

from plumage.errors import ConfigError

SOURCES = {"huggingface": "huggingface_hub", "kaggle": "kagglehub"}
"""The package that a `data.source` needs; its extra is called as the source."""


def install_line(extra: str) -> str:
    """What to run in the repository to install `extra`."""
    return f"install it: .venv/bin/pip install -c constraints.txt -e '.[{extra}]'"


def check_source(source: str) -> None:
    """Raise ConfigError with what to run if the package that `data.source` needs is missing."""
    package = SOURCES.get(source)
    if package and find_spec(package) is None:
        raise ConfigError(f"data.source: {source} needs {package}, which is not installed; {install_line(source)}")
