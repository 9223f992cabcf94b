"""A version is reproduced in a real worktree by a real `dvc repro`, with stages that take no time."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from warm_python import warm_commands, warm_python

import plumage
from plumage.errors import PipelineError, TrackingError
from plumage.registry.reproduce import Reproduction, reproduce
from plumage.tracking.lineage import lineage_tags, write_lineage
from plumage.tracking.machine import environment
from plumage.tracking.store import connect

NAME, URI = "birds", "models:/birds/1"
STAGE = """
import json, os, sys, time
from pathlib import Path

import yaml

params = yaml.safe_load(Path("params.yaml").read_text())
stage, lr = sys.argv[1], params["train"]["lr"]
for folder in ("data/dataset", "models", "reports"):
    Path(folder).mkdir(parents=True, exist_ok=True)
if stage == "download":
    assert "MLFLOW_TRACKING_URI" in os.environ or not Path(".git").is_file(), "a worktree has a store of its own"
    photos = sorted(path for path in Path(params["data"]["path"]).rglob("*.jpg"))
    Path("data/dataset/images").write_text("".join(path.name + path.read_text() for path in photos))
if stage == "split":
    Path("data/splits.csv").write_text(Path("data/dataset/images").read_text()[:4])
if stage == "train":
    print("training", flush=True)
    time.sleep(params["train"]["seconds"])
    Path("models/model.safetensors").write_text(f"{lr} {Path('code.txt').read_text()}")
    Path("models/model.json").write_text("{}")
if stage == "evaluate":
    Path("reports/metrics.json").write_text(json.dumps({"test": {"accuracy": lr}}))
"""
DVC_YAML = """
stages:
  download: {cmd: python stage.py download, deps: [data/photos, stage.py], outs: [data/dataset]}
  split: {cmd: python stage.py split, deps: [data/dataset], outs: [data/splits.csv]}
  train:
    cmd: python stage.py train
    deps: [data/splits.csv, code.txt]
    params: [train]
    outs: [models/model.safetensors, models/model.json]
  evaluate:
    cmd: python stage.py evaluate
    deps: [models/model.safetensors]
    params: [train]
    metrics: [reports/metrics.json]
  register: {cmd: exit 1, deps: [reports/metrics.json], outs: [reports/registry.json]}
"""
PARAMS = "data: {{path: data/photos}}\nmodel: {{weights: null}}\ntrain: {{lr: {lr}, seconds: {seconds}}}\n"


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose pipeline takes no time and whose photos Git ignores."""
    folder = tmp_path_factory.mktemp("made once")
    with pytest.MonkeyPatch.context() as patch:
        settle(patch)
        patch.chdir(folder)
        (folder / "stage.py").write_text(textwrap.dedent(STAGE))
        (folder / "dvc.yaml").write_text(DVC_YAML)
        (folder / "code.txt").write_text("committed")
        (folder / "data" / "photos").mkdir(parents=True)
        (folder / "data" / "photos" / "README.md").write_text("photos")
        (folder / "data" / "photos" / "owl.jpg").write_text("an owl")
        (folder / ".gitignore").write_text("*.jpg\n/mlflow*\n/mlartifacts\n")
        (folder / "params.yaml").write_text(PARAMS.format(lr=0.5, seconds=0))
        run("git", "init", "-q")
        run("dvc", "init", "-q")
        run("dvc", "repro", "evaluate")
        commit()
    return folder


@pytest.fixture
def repository(root: Path, made_once: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, with an empty store."""
    settle(monkeypatch)
    shutil.copytree(made_once, root, symlinks=True, dirs_exist_ok=True)
    return root


def settle(patch: pytest.MonkeyPatch) -> None:
    """This Python, an author for commits, and a DVC that starts warm."""
    patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for who in ("AUTHOR", "COMMITTER"):
        patch.setenv(f"GIT_{who}_NAME", "test")
        patch.setenv(f"GIT_{who}_EMAIL", "test@example.org")
    patch.setattr("plumage.registry.reproduce.DVC", (warm_python(), "-m", "dvc"))


def run(command: str, *arguments: str) -> str:
    name = str(warm_commands() / command) if command == "dvc" else command
    return subprocess.run([name, *arguments], check=True, capture_output=True, text=True).stdout


def commit() -> None:
    run("git", "add", "-A")
    run("git", "commit", "-qm", "state")


def add_version(root: Path, leave_out: str = "") -> None:
    """Register the repository's current state as a version, with the files that registering keeps."""
    experiment_id = connect(root, "plumage")
    client = MlflowClient()
    run_info = client.create_run(experiment_id).info
    (root / "kept").mkdir()
    kept = [
        *write_lineage(root / "kept", root, environment()),
        *(root / name for name in ("params.yaml", "dvc.lock", "reports/metrics.json")),
    ]
    for path in kept:
        if path.name != leave_out:
            client.log_artifact(run_info.run_id, str(path), "model/artifacts")
    client.create_registered_model(NAME)
    tags = lineage_tags(root, "register")
    client.create_model_version(NAME, f"{run_info.artifact_uri}/model", run_info.run_id, tags)


def differing(result: Reproduction) -> list[str]:
    return [thing.what for thing in result.compared if not thing.same]


def nothing_is_left(root: Path) -> bool:
    return len(run("git", "worktree", "list").splitlines()) == 1 and not (root / ".dvc/tmp/reproduce").exists()


@pytest.mark.slow
def test_the_working_tree_does_not_matter(repository: Path) -> None:
    add_version(repository)
    (repository / "code.txt").write_text("other")
    (repository / "params.yaml").write_text(PARAMS.format(lr=0.9, seconds=0))
    cache = sorted((repository / ".dvc" / "cache").rglob("*"))
    result = reproduce(URI, repository)
    assert differing(result) == [] and result.environment_changes == []
    assert [thing.what for thing in result.compared] == [
        "data data/dataset",
        "splits data/splits.csv",
        "weights models/model.safetensors",
        "model models/model.json",
        "metrics, 1 figures",
    ]
    assert nothing_is_left(repository)
    assert (repository / "code.txt").read_text() == "other"
    assert sorted((repository / ".dvc" / "cache").rglob("*")) == cache


@pytest.mark.slow
def test_uncommitted_changes_and_parameters_are_reproduced(repository: Path) -> None:
    (repository / "code.txt").write_text("not committed")
    (repository / "params.yaml").write_text(PARAMS.format(lr=0.25, seconds=0))
    run("dvc", "repro", "evaluate")
    add_version(repository)
    run("git", "checkout", "code.txt", "params.yaml")
    assert differing(reproduce(URI, repository)) == []


@pytest.mark.slow
def test_outputs_that_differ_are_named(repository: Path) -> None:
    add_version(repository)
    (repository / "code.txt").write_text("other")
    commit()
    MlflowClient().set_model_version_tag(NAME, "1", "git.commit", run("git", "rev-parse", "HEAD").strip())
    assert differing(reproduce(URI, repository)) == ["weights models/model.safetensors"]
    (repository / "data" / "photos" / "another.jpg").write_text("a jay")
    assert differing(reproduce(URI, repository)) == [
        "data data/dataset",
        "splits data/splits.csv",
        "weights models/model.safetensors",
    ]


@pytest.mark.slow
def test_photos_that_dvc_tracks_come_from_the_commit(repository: Path) -> None:
    run("git", "rm", "-q", "--cached", "data/photos/README.md")
    run("dvc", "add", "-q", "data/photos")
    run("dvc", "repro", "evaluate")
    commit()
    add_version(repository)
    (repository / "data" / "photos" / "another.jpg").write_text("a jay")
    assert differing(reproduce(URI, repository)) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda client: client.set_model_version_tag(NAME, "1", "git.commit", "f" * 40), "ffffffffffff is not in this"),
        (lambda client: client.delete_model_version_tag(NAME, "1", "git.commit"), "not made in a Git repository"),
        (lambda client: client.set_model_version_tag(NAME, "1", "git.dirty", "true"), "too long to be kept"),
    ],
)
def test_a_version_that_can_t_be_reproduced_is_one_line(
    repository: Path, spoil: Callable[[MlflowClient], None], message: str
) -> None:
    add_version(repository)
    spoil(MlflowClient())
    with pytest.raises(PipelineError, match=message) as error:
        reproduce(URI, repository)
    assert len(str(error.value).splitlines()) == 1 and nothing_is_left(repository)


@pytest.mark.slow
def test_changes_that_were_not_recorded_for_a_secret_are_named(repository: Path) -> None:
    (repository / "code.txt").write_text("password = hunter2")
    add_version(repository)
    with pytest.raises(PipelineError, match=r"its uncommitted changes of code\.txt were not recorded"):
        reproduce(URI, repository)


@pytest.mark.slow
def test_a_missing_version_or_missing_parameters_are_one_line(repository: Path) -> None:
    with pytest.raises(TrackingError, match="no such registered model"):
        reproduce(URI, repository)
    add_version(repository, leave_out="params.yaml")
    with pytest.raises(PipelineError, match="params.yaml is not among its files"):
        reproduce(URI, repository)


@pytest.mark.slow
def test_ctrl_c_ends_the_stages_and_leaves_nothing(repository: Path) -> None:
    add_version(repository)
    # The version's training takes ten minutes, so that Ctrl-C comes while it runs.
    kept = next((repository / "mlartifacts").rglob("params.yaml"))
    kept.write_text(PARAMS.format(lr=0.5, seconds=600))
    command = [warm_python(), "-c", "from plumage.cli.main import main; main()", "reproduce", "1", "--model", NAME]
    source = str(Path(plumage.__file__).parents[1])
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": source, "DVC_ROOT": str(repository)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    assert any(line == "training\n" for line in process.stdout)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and "cli.py" not in said  # the only traceback is the stage's own
    assert nothing_is_left(repository)
