"""The model registry: one version a model, and the champion that the gate or a person names.

A version's tags: `plumage.model_hash` (of the model's two files), `plumage.test_hash` (of the test photos it was judged
on), `plumage.predictions_run` (the run that has its answers for them), its metrics by their MLflow names, its run, git
commit and DVC hashes, `sha256.<file>` of each of the model's files, and the gate's last decision (`plumage.gate.*`). Among
the logged model's files are its card and what `plumage reproduce` takes. Its run has `training_photos.parquet`. Aliases:
`challenger` is the newest version, `champion` the one to use (gate.py, promotion.py).
"""

import hashlib
import io
import re
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from PIL import Image

import plumage
from plumage.common.files import sha256
from plumage.errors import TrackingError
from plumage.models.saved_model import DESCRIPTION_FILE, WEIGHTS_FILE, read_description
from plumage.registry.gate import Challenger, Champion, Gate, sentences
from plumage.registry.model_card import LONGEST_DESCRIPTION, shortened
from plumage.registry.promotions import Promotion, author, promotions, record, withdrawal
from plumage.registry.training_photos import TRAINING_PHOTOS_FILE
from plumage.registry.versions import model_versions
from plumage.tracking.evaluation_files import flatten_metrics
from plumage.tracking.run import Run
from plumage.tracking.store import lock, one_line_errors, use_store

MODEL_HASH, TEST_HASH, RUN_ID = "plumage.model_hash", "plumage.test_hash", "plumage.run_id"
PREDICTIONS_RUN = "plumage.predictions_run"
PREDICTIONS_FILE = "predictions.csv"
CARD_FILE = "MODEL_CARD.md"
SHA256 = "sha256."
LINEAGE_TAGS = ("git.", "plumage.", "dvc.data/", "dvc.models/model.")
"""Of the run's, those that a version has too: MLflow's pages show every tag in a narrow column."""
REQUIREMENTS = ("mlflow", "numpy", "pandas", "pillow", "pydantic", "safetensors", "torch", "torchvision")


def register(
    root: Path,
    run: Run,
    *,
    model_name: str,
    model_dir: Path,
    metrics: Mapping[str, Any],
    test_hash: str,
    predictions: Path,
    training_photos: Path,
    gate: Gate,
    card: Path,
    kept: Sequence[Path],
) -> dict[str, Any]:
    """Register the model in `model_dir` as a version of `model_name`, and let it challenge the champion.

    A model that is registered already (by the hash of its files) gets no new version, from whichever run it comes; the
    figures in its tags are brought up to date. `metrics` are those of reports/metrics.json, `predictions` is its
    predictions.csv of the test photos of `test_hash`, which `run` has too, `training_photos` the file of those it was
    trained on. `card` is the model card, a Markdown file: with the decision, the version's description; it and the files
    `kept` are put among the logged model's. The champion's answers are the logged ones when it was judged on the same
    test photos; else it is asked anew. One that can't be (it knows other classes, say) stays.

    Returns:
        The content of reports/registry.json.

    Raises:
        PlumageError: the registry can't be reached, or the model's own files can't be read.
    """
    client = MlflowClient()
    with one_line_errors("MLflow's registry"), lock(root):
        hashes = {file: sha256(model_dir / file) for file in (WEIGHTS_FILE, DESCRIPTION_FILE)}
        model_hash = hashlib.sha256("".join(hashes.values()).encode()).hexdigest()
        known = [found for found in model_versions(client, model_name) if found.tags.get(MODEL_HASH) == model_hash]
        flat = {name: str(value) for name, value in flatten_metrics(metrics).items() if "_ci95" not in name}
        figures = {TEST_HASH: test_hash, PREDICTIONS_RUN: run.id, **flat}
        figures |= {f"{SHA256}{file}": digest for file, digest in hashes.items()}
        if known:
            version = known[-1]
            for key, value in figures.items():
                client.set_model_version_tag(model_name, version.version, key, value)
        else:
            lineage = {key: value for key, value in run.lineage.items() if key.startswith(LINEAGE_TAGS)}
            tags = {MODEL_HASH: model_hash, RUN_ID: run.id, **lineage, **figures}
            run.log_artifact(training_photos)
            version = _create(client, model_name, model_dir, run, tags, [card, *kept])
        run.set_tags({"plumage.registered": f"{model_name}/{version.version}"})
        newest = model_versions(client, model_name)[-1]
        client.set_registered_model_alias(model_name, "challenger", newest.version)
        challenger = Challenger(
            int(version.version), model_dir, metrics, predictions, _withdrawn(client, model_name, int(version.version))
        )
        champion = _champion(client, model_name)
        with tempfile.TemporaryDirectory() as folder:
            known_of_it = _what_it_has(champion, test_hash, folder) if champion else None
            decision = gate.decide(challenger, known_of_it)
        if decision["promoted"]:
            promotion = Promotion(
                before=decision["champion_before"],
                to=challenger.version,
                how="gate",
                why=decision["reason"],
                who=author(root),
                numbers={"rule": decision["rule"], "comparison": decision["comparison"]},
            )
            record(client, model_name, promotion)
            client.set_registered_model_alias(model_name, "champion", version.version)
        if decision["champion_before"] != challenger.version:  # it keeps what made it champion
            for key, value in _decision_tags(decision).items():
                client.set_model_version_tag(model_name, version.version, key, value)
        now = client.get_model_version(model_name, version.version)
        described = _describe(now.tags.get("plumage.gate.reason", ""), card.read_text(encoding="utf-8"))
        if described != now.description:
            client.update_model_version(model_name, version.version, described)
    return {
        "name": model_name,
        "version": int(version.version),
        "aliases": sorted(now.aliases),
        "created": not known,
        "run_id": version.tags.get(RUN_ID),
        "model_hash": model_hash,
        "decision": decision,
    }


def fetch_model(uri: str, root: Path, folder: Path) -> Path:
    """Fetch the weights and description of `models:/name@alias` or `models:/name/3` into a folder below `folder`.

    Raises:
        TrackingError: the registry can't be reached or has no such model, alias or version.
    """
    version = find_version(uri, root)
    with one_line_errors(uri, OSError):
        return _download(version, str(folder))


def find_version(uri: str, root: Path) -> ModelVersion:
    """The version `models:/name@alias` or `models:/name/3`.

    Raises:
        TrackingError: the registry can't be reached or has no such model, alias or version.
    """
    match = re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))", uri)
    if match is None:
        raise TrackingError(f"{uri}: takes models:/NAME@ALIAS or models:/NAME/VERSION, as models:/bird-classifier/3")
    name, alias, number = match.groups()
    use_store(root)
    client = MlflowClient()
    with one_line_errors(uri):
        versions = model_versions(client, name)
        if not versions:
            names = sorted(model.name for model in client.search_registered_models())
            raise TrackingError(f"{uri}: no such registered model; there are {', '.join(names) or 'none'}")
        aliases: dict[str, str] = client.get_registered_model(name).aliases
        wanted = number or aliases.get(alias)
        version = next((found for found in versions if str(found.version) == str(wanted)), None)
        if version is None:
            here = [*(f"@{known}" for known in aliases), *(f"/{found.version}" for found in versions)]
            raise TrackingError(f"{uri}: no such version; of {name} there are {', '.join(here)}")
        return client.get_model_version(name, version.version)  # which knows its aliases


def _what_it_has(champion: ModelVersion, test_hash: str, folder: str) -> Champion:
    """What the gate may look at of the champion; what it asks for is fetched into a folder below `folder`."""

    def fetch(run_id: str | None, file: str) -> Path:
        with one_line_errors(f"its {file} is not to be had", OSError):
            return Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=file, dst_path=folder))

    def model() -> Path:
        with one_line_errors("its files can't be fetched", OSError):
            return _download(champion, folder)

    return Champion(
        version=int(champion.version),
        judged_here=champion.tags.get(TEST_HASH) == test_hash,
        predictions=lambda: fetch(champion.tags.get(PREDICTIONS_RUN, champion.run_id), PREDICTIONS_FILE),
        training_photos=lambda: fetch(champion.run_id, TRAINING_PHOTOS_FILE),
        model=model,
    )


def _withdrawn(client: MlflowClient, name: str, version: int) -> str | None:
    """Why the gate may not promote `version`: somebody took it back."""
    taken_back = withdrawal(promotions(client.get_registered_model(name).tags), version)
    if taken_back is None:
        return None
    return (
        f"{taken_back.who} took version {version} back on {taken_back.when[:10]} ({taken_back.why}); "
        f"`plumage registry promote {version}` makes it champion again"
    )


def _decision_tags(decision: Mapping[str, Any]) -> dict[str, str]:
    """What a version's tags say of the gate's decision: always the same keys, so that none is of an older one."""
    rule = ", ".join(f"{key} {value}" if key != "name" else value for key, value in decision["rule"].items())
    tags = {
        "promoted": str(decision["promoted"]).lower(),
        "champion_before": decision["champion_before"] or "none",
        "rule": rule,
        "reason": decision["reason"],
        "figures": "; ".join(sentences(decision)) or "none",
    }
    return {f"plumage.gate.{key}": str(value) for key, value in tags.items()}


def _describe(reason: str, card: str) -> str:
    """A version's description: why it is champion or not, and its card."""
    gate = f"Gate: {reason}\n\n"
    return gate + shortened(card, LONGEST_DESCRIPTION - len(gate))


def _champion(client: MlflowClient, name: str) -> ModelVersion | None:
    number = client.get_registered_model(name).aliases.get("champion")
    return client.get_model_version(name, number) if number else None


def _create(
    client: MlflowClient, name: str, model_dir: Path, run: Run, tags: Mapping[str, str], beside: Sequence[Path]
) -> ModelVersion:
    """Log the model in `model_dir` to `run`, with the files `beside` it, and make a version of it."""
    description = read_description(model_dir / DESCRIPTION_FILE)
    photo = io.BytesIO()
    Image.new("RGB", (description.preprocessing.size,) * 2, (90, 130, 170)).save(photo, "PNG")
    logged = mlflow.pyfunc.log_model(
        name=name,
        python_model=str(Path(__file__).with_name("served_model.py")),
        artifacts={
            "weights": str(model_dir / WEIGHTS_FILE),
            "description": str(model_dir / DESCRIPTION_FILE),
            **{file.name: str(file) for file in beside},
        },
        code_paths=[str(Path(plumage.__file__).parent)],
        pip_requirements=[f"{package}=={installed_version(package).split('+')[0]}" for package in REQUIREMENTS],
        signature=ModelSignature(
            inputs=Schema([ColSpec("binary", "image")]),
            outputs=Schema([ColSpec("float", label) for label in description.classes]),
        ),
        input_example=pd.DataFrame({"image": [photo.getvalue()]}),
    )
    try:
        client.create_registered_model(name, description="Photo to class probabilities, registered by Plumage.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return client.create_model_version(name, logged.model_uri, run.id, dict(tags), model_id=logged.model_id)


def _download(version: ModelVersion, folder: str) -> Path:
    """The folder, below `folder`, of a version's weights and description. Its code stays where it is."""
    uri = f"models:/{version.name}/{version.version}/artifacts"
    return Path(mlflow.artifacts.download_artifacts(uri, dst_path=folder))
