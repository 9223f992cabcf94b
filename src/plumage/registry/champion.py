"""What the gate knows about the champion, and about a challenger that a person has rolled back."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow import MlflowClient

from plumage.common import paths
from plumage.common.text import shown
from plumage.registry.promotions import promotions, replaced_by_hand
from plumage.registry.training_photos import TRAINING_PHOTOS_FILE
from plumage.registry.versions import CHAMPION, check_files, download_artifacts
from plumage.tracking import tags
from plumage.tracking.store import one_line_errors


@dataclass(frozen=True)
class Champion:
    """The champion. Its three callables download files on demand and raise a PlumageError when they are missing or damaged."""

    version: int
    same_test_photos: bool
    """Whether its logged predictions are for the very same test photos."""
    predictions: Callable[[], Path]
    """Its predictions.csv."""
    training_photos: Callable[[], Path]
    """Its training_photos.parquet."""
    model: Callable[[], Path]
    """The folder that holds its weights and description."""


def find_champion(client: MlflowClient, name: str, test_hash: str, folder: Path) -> Champion | None:
    """The champion of the registered model `name`, if there is one. Its files are downloaded below `folder`."""
    number = client.get_registered_model(name).aliases.get(CHAMPION)
    if number is None:
        return None
    version = client.get_model_version(name, number)

    def fetch(run_id: str | None, file: str) -> Path:
        with one_line_errors(f"its {file} can't be fetched", OSError):
            path = Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=file, dst_path=str(folder)))
        check_files(version, folder, [file])
        return path

    def fetch_artifacts() -> Path:
        with one_line_errors("its files can't be fetched", OSError):
            return download_artifacts(version, folder)

    return Champion(
        version=int(version.version),
        same_test_photos=version.tags.get(tags.TEST_HASH) == test_hash,
        predictions=lambda: fetch(version.tags.get(tags.PREDICTIONS_RUN, version.run_id), paths.PREDICTIONS.name),
        training_photos=lambda: fetch(version.run_id, TRAINING_PHOTOS_FILE),
        model=fetch_artifacts,
    )


def why_blocked(client: MlflowClient, name: str, version: int) -> str | None:
    """Why the gate must not promote `version`: a person replaced it by hand. None when nobody did."""
    move = replaced_by_hand(promotions(client.get_registered_model(name).tags), version)
    if move is None:
        return None
    return shown(
        f"{move.who} replaced version {version} by hand on {move.when[:10]} ({move.why}); "
        f"`plumage registry promote {version}` makes it champion again"
    )
