"""What a report was made from, as its head says it. All of it follows from the inputs, so that they give the same bytes again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from plumage.common import git, paths
from plumage.common.files import read_output
from plumage.errors import GitError

SOURCES = ("src", "pipeline", str(paths.PARAMS), str(paths.DVC_YAML))
"""Code and parameters: a commit of something else (results, a README) doesn't change the report."""


class Provenance(NamedTuple):
    """Empty where it is not known."""

    commit: str = ""  # the last that changed SOURCES
    committed: str = ""  # its date, "2026-11-27 01:45 UTC"
    uncommitted: bool = False  # whether SOURCES have changes since
    why_no_commit: str = "not recorded"
    training_key: str = ""  # finds the MLflow run
    dataset_hash: str = ""  # DVC's hash of data/dataset
    splits_hash: str = ""  # and of data/splits.csv


UNKNOWN = Provenance()


def provenance(root: Path, hashes: Mapping[str, str]) -> Provenance:
    """Provenance of the model in `root`/models; `hashes` are DVC's, by path.

    Raises:
        PipelineError: models/run.json is missing or damaged.
    """
    trained: Mapping[str, Any] = read_output(root / paths.RUN)
    return _commit(root)._replace(
        training_key=str(trained.get("training_key", "")),
        dataset_hash=hashes.get(str(paths.DATASET), "").removesuffix(".dir"),
        splits_hash=hashes.get(str(paths.SPLITS), ""),
    )


def _commit(root: Path) -> Provenance:
    try:
        git.commit_of(root, paths.DVC_YAML.name)
        commit, when = git.last_commit(root, SOURCES)
        return Provenance(commit, f"{when:%Y-%m-%d %H:%M} UTC", git.is_dirty(root, SOURCES))
    except GitError as error:
        return Provenance(why_no_commit=str(error))
