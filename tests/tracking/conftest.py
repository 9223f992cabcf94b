"""Fixtures: an empty MLflow store, and a repository with the outputs of a pipeline."""

from pathlib import Path

import pytest
from pipeline_outputs import write_outputs
from stores import empty_database, root

__all__ = ["empty_database", "outputs", "root"]


@pytest.fixture
def outputs(root: Path) -> Path:
    """`root`, with the files of the stages up to evaluate, run in another repository."""
    write_outputs(root)
    return root
