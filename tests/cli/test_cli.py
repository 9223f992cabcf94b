"""The `plumage` command: its output, and one line per mistake."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import make_photo
from warm_python import warm_python

from plumage import config
from plumage.common.text import shown
from plumage.data.dataset.ingest import ingest
from plumage.data.dataset.store import Dataset
from plumage.data.sources.folder import FolderSource
from plumage.data.split.splits_file import write_splits
from plumage.models import create_model
from plumage.models.preprocessing import Preprocessing
from plumage.models.saved_model import save_model

CLASSES = ["BLUE JAY", "CARDINAL", "[red]MARKUP", "GREEN JAY", "ORIOLE\nerror: forged", "OWL\x1b[2J"]


def plumage(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from plumage.cli.main import main; main()"
    source = str(Path(config.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "DVC_ROOT": str(folder), "COLUMNS": "100"}
    command = [warm_python(), "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, timeout=120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model in models/, a photo and a file that isn't one."""
    folder = tmp_path_factory.mktemp("use")
    torch.manual_seed(0)
    save_model(
        folder / "models",
        create_model("efficientnet_lite0", len(CLASSES)),
        CLASSES,
        Preprocessing(size=32, crop_fraction=1),
    )
    (folder / "bird [1].jpg").write_bytes(make_photo((60, 90, 200), 0))
    (folder / "note.jpg").write_text("no photo")
    return folder


def test_predict_prints_the_five_most_probable_classes_in_order(folder: Path) -> None:
    done = plumage(folder, "predict", "bird [1].jpg")
    assert done.returncode == 0, done.stderr
    title, *lines = done.stdout.splitlines()
    assert title == "bird [1].jpg"
    percent = [float(line.split("%")[0].strip(" <>")) for line in lines]
    assert len(lines) == 5 and percent == sorted(percent, reverse=True)
    every = plumage(folder, "predict", "bird [1].jpg", "--top", "6").stdout.splitlines()[1:]
    assert {line.split("%")[1].strip() for line in every} == set(map(shown, CLASSES))
    assert len(plumage(folder, "predict", "bird [1].jpg", "--top", "2").stdout.splitlines()) == 3


def test_predict_continues_after_a_file_that_is_not_a_photo_and_exits_3(folder: Path) -> None:
    done = plumage(folder, "predict", "note.jpg", "absent.jpg", "a\nerror: \x1b[2J", "bird [1].jpg")
    assert done.returncode == 3
    first, second, third, fourth = done.stderr.splitlines()
    assert third == "error: a\\x0aerror: \\x1b[2J: No such file or directory"
    assert first.startswith("error: note.jpg: not an image") and second.startswith("error: absent.jpg: No such file")
    assert fourth == "3 of 4 photos can't be read"
    assert done.stdout.startswith("bird [1].jpg\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "bird [1].jpg", "--model", "nowhere"], "nowhere"),
        (["predict", "bird [1].jpg", "--output", "out.txt"], "takes a .csv or .jsonl file"),
        (["predict", "bird [1].jpg", "--model", "models:/absent@champion"], "absent"),
        (["summary"], "run `dvc repro`"),
        (["data", "show", "1.jpg"], "run `dvc repro download`"),
        (["data", "export", "out"], "run `dvc repro download`"),
        (["lineage", "nowhere", "--model", "birds"], "no such file; takes a version (3, NAME@champion"),
        (["lineage", "note.jpg", "--model", "birds"], "no registered version has this file"),
        (["lineage", "3", "--model", "birds"], "no such registered model"),
        (["reproduce", "3", "--model", "birds"], "no such registered model"),
        (["reproduce", "models/model.json", "--model", "birds"], "takes a version: 3, @champion"),
        (["register"], "params.yaml"),
    ],
)
def test_something_missing_is_one_line(folder: Path, arguments: list[str], message: str) -> None:
    done = plumage(folder, *arguments)
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and message in line


def test_summary_prints_accuracy_version_and_where_to_find_more(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    metrics = {"test": {"accuracy": 0.96, "accuracy_ci95": {"low": 0.9, "high": 0.98}, "n": 150}}
    metrics["folds"] = {"accuracy": 0.9958, "accuracy_ci95": {"low": 0.977, "high": 0.9999}, "n": 1500, "k": 5}
    registry = {"name": "birds", "version": 3, "aliases": ["challenger"], "decision": {"reason": "not over 0.97"}}
    registry["warning"] = "WARNING: @champion has other classes now"
    for name, content in {"metrics": metrics, "registry": registry}.items():
        (tmp_path / "reports" / f"{name}.json").write_text(json.dumps(content))
    output = plumage(tmp_path, "summary").stdout
    assert "test accuracy  96.0%  (95%: 90.0% to 98.0%, 150 photos)" in output
    assert "5 folds  99.6%  (95%: 97.7% to >99.9%, 1,500 photos)" in output
    assert "birds version 3 @challenger: not over 0.97" in output
    assert "reports/report.html" in output and "make ui" in output
    assert output.splitlines()[-1] == registry["warning"]


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys; sys.argv[1:] = ['--help']; from plumage.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], cwd=tmp_path, text=True, capture_output=True, check=True
    )
    assert "Usage" in done.stdout
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "typer" in imported and not imported & {"mlflow", "numpy", "pandas", "pydantic", "ruamel", "torch", "yaml"}


def test_params_prints_the_committed_reference_and_schema(tmp_path: Path) -> None:
    docs = Path(__file__).parents[2] / "docs"
    assert plumage(tmp_path, "params").stdout == (docs / "params.md").read_text(encoding="utf-8")
    assert plumage(tmp_path, "params", "--schema").stdout == (docs / "params.schema.json").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def with_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set of three photos, split."""
    folder = tmp_path_factory.mktemp("data")
    for number, name in enumerate(["BLUE JAY/1.jpg", "BLUE JAY/2.jpg", "[red]OWL/1.jpg"]):
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "photos" / name).write_bytes(make_photo((60, 90, 200), number))
    ingest(FolderSource(folder / "photos"), folder / "data" / "dataset", min_size=8, max_refused=0, processes=0)
    dataset = Dataset(folder / "data" / "dataset")
    write_splits(folder / "data" / "splits.csv", dataset.keys, dataset.labels, ["train", "unused", "test"])
    return folder


def test_data_show_writes_a_photo_without_overwriting_and_prints_its_columns(with_data: Path) -> None:
    done = plumage(with_data, "data", "show", "[red]OWL/1.jpg")
    assert done.returncode == 0, done.stderr
    assert (with_data / "1.jpg").read_bytes() == (with_data / "photos" / "[red]OWL" / "1.jpg").read_bytes()
    for line in ("label  [red]OWL", "official split  none", "split  test", "size  40 x 32 pixels", "written to  1.jpg"):
        assert line in done.stdout
    again = plumage(with_data, "data", "show", "[red]OWL/1.jpg")
    assert again.returncode == 1 and "use --force" in again.stderr and len(again.stderr.splitlines()) == 1
    forced = plumage(with_data, "data", "show", "BLUE JAY/1.jpg", "--to", "1.jpg", "--force")
    assert forced.returncode == 0 and "label  BLUE JAY" in forced.stdout
    unknown = plumage(with_data, "data", "show", "BLUE JAY/1.png")
    assert unknown.returncode == 1 and "similar keys: BLUE JAY/1.jpg" in unknown.stderr


def test_data_export_writes_class_folders_and_with_parts_one_set_per_split(with_data: Path) -> None:
    done = plumage(with_data, "data", "export", "out/plain")
    assert done.returncode == 0 and done.stdout == "3 photos written to out/plain\n"
    assert (with_data / "out" / "plain" / "[red]OWL" / "1.jpg").is_file()
    done = plumage(with_data, "data", "export", "out/parts", "--parts")
    assert done.stdout == "2 photos written to out/parts\n"
    assert (with_data / "out" / "parts" / "test" / "[red]OWL" / "1.jpg").is_file()
    full = plumage(with_data, "data", "export", "out")
    assert full.returncode == 1 and "not an empty folder" in full.stderr and len(full.stderr.splitlines()) == 1


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose registry has three versions of `birds`; the first is champion without a promotion."""
    from mlflow import MlflowClient

    from plumage.tracking.locations import make_portable

    folder = tmp_path_factory.mktemp("registered")
    (folder / "params.yaml").write_text("register: {model_name: birds}")
    uri = f"sqlite:///{folder}/mlflow.db"
    client = MlflowClient(uri, uri)
    client.create_registered_model("birds")
    for _ in range(3):
        client.create_model_version("birds", (folder / "models").as_uri())
    client.set_registered_model_alias("birds", "champion", "1")
    make_portable(folder / "mlflow.db")
    return folder


@pytest.mark.slow
def test_registry_promotes_rolls_back_and_shows_by_whom_and_why(registered: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(registered, tmp_path / "copy")
    subprocess.run(["git", "init", "-q", folder], check=True)
    for key, value in (("user.name", "Ada"), ("user.email", "")):
        subprocess.run(["git", "-C", folder, "config", key, value], check=True)
    output = plumage(folder, "registry", "history").stdout
    assert output.startswith("birds: no promotions yet\nthe champion is version 1, but not by the history")
    for arguments, now in (
        (["promote", "3", "--reason", "calls [red] wrens right"], "version 3 is champion now, in place of version 1"),
        (["rollback", "--reason", "no, it doesn't"], "version 1 is champion now, in place of version 3"),
    ):
        done = plumage(folder, "registry", *arguments)
        assert (done.returncode, done.stdout) == (0, f"birds: {now}\n"), done.stderr
    lines = [line.split() for line in plumage(folder, "registry", "history").stdout.splitlines()]
    assert [" ".join(line[2:]) for line in lines[::2]] == ["UTC 1 → 3 promote Ada", "UTC 3 → 1 rollback Ada"]
    assert [" ".join(line) for line in lines[1::2]] == ["calls [red] wrens right", "no, it doesn't"]
    entries = json.loads(plumage(folder, "registry", "history", "--json").stdout)
    assert [(entry["before"], entry["to"], entry["who"]) for entry in entries] == [(1, 3, "Ada"), (3, 1, "Ada")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["promote", "9", "--reason", "why"], "birds: has no version 9; it has 1, 2, 3"),
        (["promote", "2"], "a reason is needed"),
        (["rollback", "--reason", "why"], "its history has no champion before version 1"),
        (["history", "--model", "owls"], "owls: no such registered model; there are birds"),
    ],
)
def test_an_impossible_registry_command_is_one_line(registered: Path, arguments: list[str], message: str) -> None:
    done = plumage(registered, "registry", *arguments)
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and message in line


@pytest.mark.slow
def test_repair_says_what_it_did_or_that_there_was_nothing_to_do(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").touch()
    done = plumage(tmp_path, "registry", "history", "--model", "owls")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "`plumage repair`" in done.stderr
    done = plumage(tmp_path, "repair")
    assert done.returncode == 0 and done.stdout.count("\n") == 1 and "0 runs" in done.stdout, done.stderr
    assert plumage(tmp_path, "repair").stdout == "nothing to repair\n"
