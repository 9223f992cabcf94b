"""Register a trained model: one version per model in MLflow's registry, and one champion.

`register_outputs` is what the register stage and `plumage register` run. Its steps: collect the model and its files,
find or create its version, let the gate decide, describe it, promote it.

A version's tags (plumage.tracking.tags) are the hashes of its model, its files and the test photos, its run and the run
with its predictions, its headline metrics, the commit and DVC's hashes, and the gate's last decision. Its logged model holds the
model card and the files that `plumage reproduce` needs; its run holds `training_photos.parquet`. The alias `challenger`
is the newest version, `champion` the one to use.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from plumage.common import paths
from plumage.common.class_names import ClassNames
from plumage.common.files import naming, sha256
from plumage.config import Register
from plumage.data.dataset.store import Dataset
from plumage.data.split.splits_file import read_split
from plumage.registry.aliases import CHALLENGER
from plumage.registry.candidate import Candidate, collect_candidate
from plumage.registry.champion import find_standing
from plumage.registry.class_change import ClassChange, find_class_change
from plumage.registry.class_sets import class_set
from plumage.registry.comparisons import count_comparisons
from plumage.registry.decision import GATE_REASON, decision_tags, version_description
from plumage.registry.gate import Gate
from plumage.registry.head_to_head import TestPhotos
from plumage.registry.log_model import complete_logged_models, create_version, log_model, log_model_metrics
from plumage.registry.model_page import DESCRIPTION, describe_model
from plumage.registry.promotions import Promotion, author, complete_promotions, move_champion
from plumage.registry.versions import all_hashes, model_versions
from plumage.tracking import tags
from plumage.tracking.resume import resume_run
from plumage.tracking.run import Run
from plumage.tracking.store import ignoring_existing, lock_model, one_line_errors

HEADLINE_METRICS = ("test/accuracy", "test/macro_f1", "test/loss", "test/ece", "val/accuracy")
"""The metrics that a version's tags have. Its model and its run have all of them."""
VERSION_LINEAGE = (
    tags.VERSION,
    tags.GIT_COMMIT,
    tags.GIT_DIRTY,
    tags.GIT_UNKNOWN,
    f"{tags.DVC}{paths.DATA}/",
    f"{tags.DVC}{paths.MODELS}/model.",
)
"""The run's tags that a version has too, by their start. Few: MLflow shows every tag in a narrow column."""


def register_outputs(
    root: Path,
    experiment: str,
    settings: Register,
    similarity: float | None,
    names: ClassNames,
    params: Mapping[str, Any],
) -> dict[str, Any]:
    """Register the model in the working directory. Returns the content of reports/registry.json.

    `root` is the repository's, `similarity` is split.similarity, `names` data.classes, `params` are the run's (flat,
    `section.key`). A run or version that the store lacks is restored from the files that DVC tracks; repeating the call adds
    nothing.

    Raises:
        PlumageError: the store can't be reached, or a file can't be read.
    """
    dataset, rows = read_split(paths.SPLITS, Dataset(paths.DATASET))
    with resume_run(root, experiment, params, "register") as run, tempfile.TemporaryDirectory() as folder:
        candidate = collect_candidate(Path(folder), run, settings.model_name, dataset, rows, params)
        return register(root, run, candidate, Gate(settings, TestPhotos(dataset, rows["test"], similarity, names)))


def register(root: Path, run: Run, candidate: Candidate, gate: Gate) -> dict[str, Any]:
    """Register `candidate`, and make it champion if the gate lets it. Returns the content of reports/registry.json.

    Raises:
        PlumageError: the registry can't be reached, or the model's own files can't be read.
    """
    client, name = MlflowClient(), gate.settings.model_name
    with one_line_errors("MLflow's registry"), ignoring_existing():
        client.create_registered_model(name, description=DESCRIPTION)
    with one_line_errors("MLflow's registry"), lock_model(root, name):
        complete_promotions(client, name)
        change = _find_class_change(client, name, candidate, gate.photos.names)
        complete_logged_models(client, run, name)
        version, created = _find_or_create_version(client, name, run, candidate, gate.test_hash)
        client.set_registered_model_alias(name, CHALLENGER, model_versions(client, name)[-1].version)
        decision = _decide(client, version, candidate, gate)
        _describe(client, version, decision, candidate.card)
        if decision["champion"] != decision["champion_before"]:  # last: a stage that is killed before decides again
            move_champion(client, name, _promotion(decision, author(root)))
        describe_model(client, name)
        aliases = client.get_model_version(name, version.version).aliases
    return {
        "name": name,
        "version": int(version.version),
        "aliases": sorted(aliases),
        "created": created,
        "model_hash": candidate.model_hash,
        "decision": decision,
        "warning": _warning(change, decision),
    }


def _find_class_change(client: MlflowClient, name: str, candidate: Candidate, names: ClassNames) -> ClassChange | None:
    """The change of classes, which training has announced, if there is one; and tag a champion of an earlier Plumage."""
    change = find_class_change(name, candidate.classes, names)
    if change:
        client.set_model_version_tag(name, str(change.version), tags.CLASS_SET, class_set(change.known))
    return change


def _warning(change: ClassChange | None, decision: Mapping[str, Any]) -> str | None:
    """What a person must know if `@champion` has moved to a version that lacks names of classes of the one before."""
    moved = decision["champion"] != decision["champion_before"]
    return change.warning() if change and moved and change.gone else None


def _find_or_create_version(
    client: MlflowClient, name: str, run: Run, candidate: Candidate, test_hash: str
) -> tuple[ModelVersion, bool]:
    """The version with the candidate's model, from any run, with its figures up to date; and whether it is new."""
    metrics = {key: str(value) for key, value in candidate.flat_metrics.items()}
    metrics_hash = hashlib.sha256(json.dumps(metrics, sort_keys=True).encode()).hexdigest()[:16]
    versions = model_versions(client, name)
    found = [version for version in versions if version.tags.get(tags.MODEL_HASH) == candidate.model_hash]
    hashes = all_hashes(found[-1]) if found else candidate.provenance_hashes
    hashes = hashes | {**candidate.file_hashes, paths.PREDICTIONS.name: sha256(candidate.predictions)}
    figures = {
        tags.CLASS_SET: class_set(candidate.classes),
        tags.TEST_HASH: test_hash,
        tags.PREDICTIONS_RUN: run.id,
        tags.HASHES: json.dumps(hashes, sort_keys=True),
        tags.METRICS_HASH: metrics_hash,
        **{key: metrics[key] for key in HEADLINE_METRICS if key in metrics},
    }
    version = found[-1] if found else _create_version(client, name, run, candidate, figures)
    if version.tags.get(tags.METRICS_HASH) != metrics_hash:  # evaluated again, with other parameters
        log_model_metrics(run, str(version.source).removeprefix("models:/"), candidate.test_metrics)
    for key, value in figures.items():
        if version.tags.get(key) != value:
            client.set_model_version_tag(name, version.version, key, value)
    run.set_tags({tags.REGISTERED: f"{name}/{version.version}"})
    return version, not found


def _create_version(
    client: MlflowClient, name: str, run: Run, candidate: Candidate, figures: Mapping[str, str]
) -> ModelVersion:
    run.log_artifact(candidate.training_photos)
    with naming(Path(tempfile.gettempdir())):  # where MLflow writes the model first
        model_id = log_model(name, candidate.folder, [candidate.card, *candidate.provenance], candidate.epoch)
    log_model_metrics(run, model_id, candidate.test_metrics)
    identity = {tags.MODEL_HASH: candidate.model_hash, tags.RUN_ID: run.id}
    lineage = {key: value for key, value in run.lineage.items() if key.startswith(VERSION_LINEAGE)}
    return create_version(client, name, model_id, {**identity, **lineage, **figures})


def _decide(client: MlflowClient, version: ModelVersion, candidate: Candidate, gate: Gate) -> dict[str, Any]:
    number, name = int(version.version), version.name
    with tempfile.TemporaryDirectory() as folder:
        standing = find_standing(client, name, number, candidate.classes, gate.test_hash, Path(folder))
        decision = gate.decide(candidate, number, standing)
    if decision["comparison"]:
        versions = model_versions(client, name)
        decision["comparisons"] = count_comparisons(versions, number, gate.test_hash, gate.settings.alpha)
    return decision


def _promotion(decision: Mapping[str, Any], author: str) -> Promotion:
    numbers = {key: decision[key] for key in ("rule", "comparison", "comparisons")}
    times = (numbers["comparisons"] or {"count": 1})["count"]
    return Promotion(
        before=decision["champion_before"],
        to=decision["champion"],
        how="gate",
        why=decision["reason"] + (f" (comparison {times:,} on these test photos)" if times > 1 else ""),
        who=author,
        numbers=numbers,
    )


def _describe(client: MlflowClient, version: ModelVersion, decision: Mapping[str, Any], card: Path) -> None:
    """Put the decision into the version's tags, and the decision and the model card into its description."""
    if decision["champion_before"] != int(version.version):  # a champion keeps the decision that made it champion
        for key, value in decision_tags(decision).items():
            client.set_model_version_tag(version.name, version.version, key, value)
    now = client.get_model_version(version.name, version.version)
    description = version_description(now.tags.get(GATE_REASON, ""), card.read_text(encoding="utf-8"))
    if description != now.description:
        client.update_model_version(version.name, version.version, description)
