"""What the gate knows about the champion, and about a challenger that a person has rolled back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from plumage.common import paths
from plumage.common.text import shown
from plumage.models.description import DESCRIPTION_FILE, read_description
from plumage.registry.aliases import CHAMPION, kept_alias
from plumage.registry.class_change import fetch_description
from plumage.registry.class_sets import class_set
from plumage.registry.promotions import promotions, replaced_by_hand
from plumage.registry.training_photos import TRAINING_PHOTOS_FILE
from plumage.registry.versions import check_files, download_artifacts
from plumage.tracking import tags
from plumage.tracking.store import one_line_errors


@dataclass(frozen=True)
class Champion:
    """A champion. Its callables fetch what they return on demand; those of files raise a PlumageError when they are gone or damaged."""

    version: int
    same_test_photos: bool
    """Whether its logged predictions are for the very same test photos."""
    predictions: Callable[[], Path]
    """Its predictions.csv."""
    training_photos: Callable[[], Path]
    """Its training_photos.parquet."""
    model: Callable[[], Path]
    """The folder that holds its weights and description."""
    classes: Callable[[], Sequence[str]]
    from_sample: Callable[[], bool]
    """Whether it was trained on the sample; False if its run is gone."""
    class_set: str | None
    """Identifies its classes (`plumage.registry.class_sets`). A version of an earlier Plumage has none."""


@dataclass(frozen=True)
class Standing:
    """Who is champion when the gate decides."""

    champion: Champion | None
    """The version at the alias `champion`."""
    kept: Champion | None
    """The champion of the challenger's set of classes, if `champion` is that of another set."""
    blocked: str | None
    """Why the challenger must not be promoted; None: it may."""
    kept_blocked: str | None
    """The same of `kept`."""

    @property
    def rival(self) -> Champion | None:
        """The version that the challenger is compared with."""
        return self.kept or self.champion


def find_standing(
    client: MlflowClient, name: str, challenger: int, classes: Sequence[str], test_hash: str, folder: Path
) -> Standing:
    """Who is champion of the registered model `name` when the version `challenger`, with these `classes`, is judged.

    Their files are downloaded below `folder`.
    """
    aliases = client.get_registered_model(name).aliases
    champion, kept = (
        _champion(client, name, aliases[alias], test_hash, folder / alias) if alias in aliases else None
        for alias in (CHAMPION, kept_alias(class_set(classes)))
    )
    kept = None if kept and champion and kept.version == champion.version else kept
    kept_blocked = why_blocked(client, name, kept.version) if kept else None
    return Standing(champion, kept, why_blocked(client, name, challenger), kept_blocked)


def _champion(client: MlflowClient, name: str, number: str, test_hash: str, folder: Path) -> Champion:
    version = client.get_model_version(name, number)
    folder.mkdir(exist_ok=True)

    def fetch(run_id: str | None, file: str) -> Path:
        with one_line_errors(f"its {file} can't be fetched", OSError):
            path = Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=file, dst_path=str(folder)))
        check_files(version, folder, [file])
        return path

    def fetch_artifacts() -> Path:
        with one_line_errors("its files can't be fetched", OSError):
            return download_artifacts(version, folder)

    def fetch_classes() -> Sequence[str]:
        description = fetch_description(version, folder)
        check_files(version, description.parent, [DESCRIPTION_FILE])
        return read_description(description).classes

    def from_sample() -> bool:
        try:
            return client.get_run(version.run_id or "").data.params.get("data.source") == "sample"
        except MlflowException:
            return False

    return Champion(
        version=int(version.version),
        same_test_photos=version.tags.get(tags.TEST_HASH) == test_hash,
        predictions=lambda: fetch(version.tags.get(tags.PREDICTIONS_RUN, version.run_id), paths.PREDICTIONS.name),
        training_photos=lambda: fetch(version.run_id, TRAINING_PHOTOS_FILE),
        model=fetch_artifacts,
        classes=fetch_classes,
        from_sample=from_sample,
        class_set=version.tags.get(tags.CLASS_SET),
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
