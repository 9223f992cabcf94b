"""A version of the registry is loaded only with the files that were registered."""

import json
import logging
from pathlib import Path

import pytest
from mlflow import MlflowClient
from registering import NAME, add, hits

from plumage.common.files import sha256
from plumage.errors import ModelError, TrackingError
from plumage.registry.lineage_query import lineage_of
from plumage.serving import load_predictor
from plumage.tracking.tags import HASHES, SHA256

URI = f"models:/{NAME}@champion"


@pytest.fixture
def artifacts(registered: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the store has the artifacts of the only version."""
    monkeypatch.setenv("DVC_ROOT", str(registered))
    (weights,) = (registered / "mlartifacts").rglob("model.safetensors")
    return weights.parent


def test_a_changed_or_missing_file_of_a_version_is_one_line_with_its_hashes(artifacts: Path) -> None:
    weights, description = artifacts / "model.safetensors", artifacts / "model.json"
    registered = sha256(weights)
    damaged = bytearray(weights.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    whole = weights.rename(artifacts / "whole")
    weights.write_bytes(damaged)
    with pytest.raises(ModelError) as caught:
        load_predictor(URI)
    found = sha256(weights)
    assert str(caught.value) == (
        f"models:/{NAME}/1: model.safetensors has SHA-256 {found}, but was registered with {registered}"
    )
    whole.replace(weights)
    load_predictor(URI)
    registered = sha256(description)
    description.unlink()
    with pytest.raises(ModelError, match=f"model.json is missing; it was registered with SHA-256 {registered}"):
        load_predictor(URI)


def test_a_version_without_recorded_hashes_loads_with_a_warning(
    artifacts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hashes = json.loads(MlflowClient().get_model_version(NAME, "1").tags[HASHES])
    del hashes["model.safetensors"]
    MlflowClient().set_model_version_tag(NAME, "1", HASHES, json.dumps(hashes))
    with caplog.at_level(logging.WARNING, "plumage"):
        load_predictor(URI)
    (record,) = caplog.records
    assert (
        record.getMessage() == f"models:/{NAME}/1: its tags lack the SHA-256 of model.safetensors, so it is not checked"
    )


def test_a_version_of_an_earlier_release_is_checked_by_its_own_tags(artifacts: Path) -> None:
    client = MlflowClient()
    for name, digest in json.loads(client.get_model_version(NAME, "1").tags[HASHES]).items():
        client.set_model_version_tag(NAME, "1", f"{SHA256}{name}", digest)
    client.delete_model_version_tag(NAME, "1", HASHES)
    load_predictor(URI)
    flip(artifacts / "model.json")
    with pytest.raises(ModelError, match="but was registered with"):
        load_predictor(URI)


def test_damaged_hashes_are_one_line_instead_of_no_check(artifacts: Path) -> None:
    MlflowClient().set_model_version_tag(NAME, "1", HASHES, '{"model.json": ')
    with pytest.raises(TrackingError, match=r"its tag plumage\.sha256 is damaged"):
        load_predictor(URI)


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_lineage_is_shown_only_from_the_files_that_were_registered(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(photos))
    machine = photos / "machine.json"
    machine.write_text('{"cpu": "A"}')
    add(photos, 1, hits(40), provenance=[machine])
    assert lineage_of(URI, photos).machine == {"cpu": "A"}
    (kept,) = (photos / "mlartifacts").rglob("artifacts/machine.json")
    flip(kept)
    with pytest.raises(ModelError, match=r"1: machine\.json has SHA-256 .*, but was registered with") as caught:
        lineage_of(URI, photos)
    assert "\n" not in str(caught.value)
    kept.unlink()
    with pytest.raises(ModelError, match=r"1: machine\.json is missing; it was registered with SHA-256"):
        lineage_of(URI, photos)


def test_the_gate_takes_no_damaged_file_of_the_champion(registered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its predictions are made again, and without its training photos the decision says so."""
    monkeypatch.setenv("DVC_ROOT", str(registered))
    (predictions,) = (registered / "mlartifacts").rglob("predictions.csv")
    predictions.write_text(predictions.read_text().replace("jay", "owl"))
    (training_photos,) = (registered / "mlartifacts").rglob("training_photos.parquet")
    flip(training_photos)
    decision = add(registered, 2, hits(60))["decision"]
    assert decision["comparison"]["champion_answers"] == "evaluated anew"
    assert "training_photos.parquet has SHA-256" in decision["left_out"]["why_not"]
