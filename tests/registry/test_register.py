"""One version per model, and a champion that only the gate replaces."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow_servers import Server
from registering import CLASSES, NAME, add, hits
from warm_python import warm_python

from plumage.errors import TrackingError
from plumage.registry.lineage_query import lineage_of, version_uri
from plumage.registry.promotions import promotions
from plumage.registry.versions import fetch_model
from plumage.serving import load_predictor


def test_the_first_is_champion_and_only_a_better_one_replaces_it(photos: Path) -> None:
    first = add(photos, 1, hits(40))
    assert (first["version"], first["aliases"], first["created"]) == (1, ["challenger", "champion"], True)
    equal = add(photos, 2, hits(40))
    assert (equal["version"], equal["aliases"]) == (2, ["challenger"])
    noise = add(photos, 3, hits(44))
    assert (noise["version"], noise["aliases"]) == (3, ["challenger"])
    better = add(photos, 4, hits(52))
    assert (better["version"], better["aliases"]) == (4, ["challenger", "champion"])
    assert better["decision"]["champion_before"] == 1 and better["decision"]["promoted"]
    assert MlflowClient().get_registered_model(NAME).aliases == {"challenger": 4, "champion": 4}


def test_a_name_in_any_script_is_an_address(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(photos))
    add(photos, 1, hits(40), model_name="Vögel 鳥")
    for address in ("models:/Vögel 鳥@champion", "models:/Vögel 鳥/1"):
        assert load_predictor(address).classes == CLASSES
        assert mlflow.models.get_model_info(address).model_id
    assert lineage_of(version_uri("Vögel 鳥@champion", NAME) or "", photos).version == 1


def test_registering_a_model_again_adds_no_version(photos: Path) -> None:
    first = add(photos, 1, hits(40))
    again = add(photos, 1, hits(40))
    assert (again["version"], again["created"], again["model_hash"]) == (1, False, first["model_hash"])
    assert again["decision"]["reason"] == "version 1 is the champion already"
    assert again == add(photos, 1, hits(40))
    assert len(MlflowClient().search_model_versions(f"name = '{NAME}'")) == 1
    assert len(promotions(MlflowClient().get_registered_model(NAME).tags)) == 1


def test_what_dvc_hashes_holds_no_run_id(photos: Path) -> None:
    outcome = add(photos, 1, hits(40))
    assert MlflowClient().get_model_version(NAME, "1").run_id not in json.dumps(outcome)


def test_a_version_s_tags_are_its_run_metrics_hashes_and_decision(photos: Path) -> None:
    outcome = add(photos, 1, hits(48))
    add(photos, 1, hits(48))  # a champion keeps the decision that made it champion
    client = MlflowClient()
    champion = client.get_model_version_by_alias(NAME, "champion")
    tags = champion.tags
    assert tags["test/accuracy"] == "0.8" and tags["plumage.model_hash"] == outcome["model_hash"]
    assert tags["plumage.run_id"] == champion.run_id and tags["plumage.version"]
    assert tags["plumage.gate.promoted"] == "true" and tags["plumage.gate.champion_before"] == "none"
    decision = add(photos, 2, hits(50))["decision"]
    tags = client.get_model_version(NAME, "2").tags
    assert tags["plumage.gate.promoted"] == "false" and tags["plumage.gate.reason"] == decision["reason"]
    assert tags["plumage.gate.rule"] == "superior, alpha 0.05"
    assert "2 only this one gets right, 0 only the champion" in tags["plumage.gate.figures"]


REGISTER = """
import os, sys
from pathlib import Path
from registering import add, hits

root = Path(sys.argv[1])
os.chdir(root)
for argument in sys.argv[2:]:
    seed, right = map(int, argument.split(":"))
    add(root, seed, hits(right))
"""


@pytest.fixture(params=["SQLite", "server"])
def shared_store(request: pytest.FixtureRequest, photos: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URI of a store that several clones use."""
    server = Server(photos)
    if request.param == "server":
        server.start()
    uri = server.url if request.param == "server" else f"sqlite:///{photos}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    yield uri
    if request.param == "server":
        server.kill()


@pytest.mark.slow
def test_of_two_clones_that_register_at_once_the_better_is_champion_and_nothing_is_lost_or_there_twice(
    photos: Path, tmp_path_factory: pytest.TempPathFactory, shared_store: str
) -> None:
    other = tmp_path_factory.mktemp("clone")
    shutil.copytree(photos / "dataset", other / "dataset")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    both = [
        subprocess.Popen([warm_python(), "-c", REGISTER, str(clone), "1:20", last], env=environment)
        for clone, last in ((photos, "2:40"), (other, "3:55"))
    ]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    client = MlflowClient(shared_store, shared_store)
    versions = client.search_model_versions(f"name = '{NAME}'")
    assert sorted(version.tags["test/accuracy"] for version in versions) == ["0.333333", "0.666667", "0.916667"]
    number = {version.tags["test/accuracy"]: int(version.version) for version in versions}
    (worse,) = (version for version in versions if version.tags["test/accuracy"] == "0.666667")
    model = client.get_registered_model(NAME)
    assert int(model.aliases["champion"]) == number["0.916667"]
    history = promotions(model.tags)
    # The worse one was champion for a moment if it came first, and was refused otherwise.
    came_first = worse.tags["plumage.gate.promoted"] == "true"
    champions = [number["0.333333"], *([number["0.666667"]] if came_first else []), number["0.916667"]]
    assert [entry.to for entry in history] == champions
    assert [entry.before for entry in history] == [None, *champions[:-1]]
    (experiment,) = client.search_experiments(filter_string="name = 'plumage'")
    logged = client.search_logged_models([experiment.experiment_id])
    assert {version.source for version in versions} == {f"models:/{found.model_id}" for found in logged}
    assert not [key for key in model.tags if key.startswith("plumage.") and "promotion" not in key]


@pytest.mark.slow
def test_a_kill_at_any_point_leaves_no_model_without_a_version_and_no_promotion_twice(
    photos: Path,
) -> None:
    add(photos, 1, hits(20))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    command = [sys.executable, str(Path(__file__).with_name("killed_register.py")), str(photos), "11"]
    said = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    trials = [json.loads(line) for line in said.splitlines()]
    assert len(trials) > 3
    for at, left in trials:
        assert left == {
            "aliases": {"challenger": 2, "champion": 2},
            "promotions": [[None, 1], [1, 2]],
            "tags left": [],
            "each model is a version": True,
            "each model links to its version": True,
            "runs without an end": 0,
            "files without a model": 0,
        }, f"killed before commit {at}"


def test_no_file_of_a_registered_model_is_a_pickle(registered: Path) -> None:
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{NAME}@champion"))
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib")]
    assert not [path for path in files if path.read_bytes()[:1] == b"\x80"]  # a pickle's first byte


def test_a_missing_model_alias_or_version_is_one_line_that_lists_what_exists(registered: Path) -> None:
    for uri, message in {
        "models:/owls@champion": "there are bird-classifier",
        f"models:/{NAME}@best": "there are @challenger, @champion, /1",
        f"models:/{NAME}/7": "there are @challenger, @champion, /1",
        f"models:/{NAME}": "takes models:/NAME@ALIAS or models:/NAME/VERSION",
    }.items():
        with pytest.raises(TrackingError, match=message):
            fetch_model(uri, registered, registered / "fetched")
    assert fetch_model(f"models:/{NAME}/1", registered, registered).joinpath("model.safetensors").is_file()
