"""What a model with other classes means for `@champion`: said before it is trained, and before it is registered."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from plumage.common.class_names import ClassNames, class_identity
from plumage.common.text import shown
from plumage.config import Params
from plumage.errors import PlumageError
from plumage.models.description import DESCRIPTION_FILE, read_description
from plumage.registry.aliases import CHAMPION, kept_alias
from plumage.registry.class_sets import ClassSets, class_set, count, named
from plumage.tracking import tags
from plumage.tracking.store import STORE_ERRORS, one_line_errors

RENAMED = "if classes were renamed or merged, say so in data.classes"


def fetch_description(version: ModelVersion, folder: Path) -> Path:
    """Download a version's model.json below `folder`. TrackingError if it is gone."""
    uri = f"models:/{version.name}/{version.version}"
    with one_line_errors(f"its {DESCRIPTION_FILE} can't be fetched", OSError):
        return Path(mlflow.artifacts.download_artifacts(f"{uri}/artifacts/{DESCRIPTION_FILE}", dst_path=str(folder)))


@dataclass(frozen=True)
class ClassChange:
    """The champion of a registered model, and another model of other classes."""

    version: int
    """The champion."""
    known: Sequence[str]
    """Its classes, by their own names."""
    classes: Sequence[str]
    """Those of the other model."""
    sets: ClassSets

    @property
    def gone(self) -> list[str]:
        """Names that the champion gives and the other model does not."""
        given = set(map(class_identity, self.classes))
        return [label for label in self.known if class_identity(label) not in given]

    @property
    def added(self) -> list[str]:
        """Names that the other model gives and the champion does not."""
        known = set(map(class_identity, self.known))
        return [label for label in self.classes if class_identity(label) not in known]

    @property
    def kept(self) -> str:
        """The alias that the champion gets when it is replaced."""
        return f"@{kept_alias(class_set(self.known))}"

    def before(self, name: str, from_sample: bool) -> str:
        """What will follow, as a line."""
        return f"{name}@champion (version {self.version}) {self._what_follows(from_sample)}"

    def _what_follows(self, from_sample: bool) -> str:
        sets, lost, both = self.sets, named(self.sets.lost), f"the {count(self.sets.shared)} that both know"
        if sets.equal:
            return f"has older names ({named(self.gone)}) for the same classes: if this model is not worse, it becomes @champion"
        if not sets.lost:
            return f"does not know {named(sets.new)}: the gate compares both on {both}, and new classes have a floor"
        if sets.comparable:
            return (
                f"knows {lost}, which this model does not: if this one is not worse on {both}, it becomes @champion, and "
                f"version {self.version} becomes {self.kept} ({RENAMED})"
            )
        other = f"knows other classes ({lost}): this is a different model"
        if from_sample:
            return f"{other}; as it was trained on the sample, it does not replace one trained on your own photos"
        return f"{other}; it becomes @champion, and version {self.version} becomes {self.kept} ({RENAMED})"

    def warning(self) -> str:
        """What has happened, once another version is champion."""
        back = f"Version {self.version} is {self.kept}; `plumage registry rollback --reason ...` goes back."
        names = f"(new: {named(self.added) or 'none'}; gone: {named(self.gone)})"
        if self.sets.equal:
            return f"WARNING: @champion has other names for the same classes now {names}. {back}"
        return (
            f"WARNING: @champion has other classes now: {len(self.classes):,} instead of {count(self.known)} {names}. {back} "
            "For a model beside it, set register.model_name."
        )


def find_class_change(name: str, classes: Sequence[str], names: ClassNames) -> ClassChange | None:
    """Compare the champion of the registered model `name` with a model of `classes`; None if its tags say the same, or there is none.

    The store must be in use (`use_store`). `names` says what the champion's classes are called now. A champion whose
    model.json can't be read is left to the gate: None, too.
    """
    client = MlflowClient()
    try:
        version = client.get_model_version_by_alias(name, CHAMPION)
    except STORE_ERRORS:
        return None
    if version.tags.get(tags.CLASS_SET) == class_set(classes):
        return None
    try:
        with tempfile.TemporaryDirectory() as folder:
            known = read_description(fetch_description(version, Path(folder))).classes
    except PlumageError:
        return None
    return ClassChange(int(version.version), known, classes, ClassSets.of(classes, known, names))


def announce_before_training(params: Params, classes: Sequence[str]) -> None:
    """Print what follows if a model of `classes` is trained and registered, if these are others than the champion's.

    The store must be in use. It decides nothing, so train does not depend on these parameters.
    """
    data = params.data
    change = find_class_change(params.register_.model_name, classes, ClassNames(data.classes))
    if change and (change.gone or change.sets.new):
        print(shown(change.before(params.register_.model_name, data.source == "sample")), flush=True)
