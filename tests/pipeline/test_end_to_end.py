"""The real `dvc repro`, in a temporary clone with all kinds of characters in its path, on a tiny sample, with a real MLflow store."""

import csv
import hashlib
import json
import os
import shutil
import signal
import time
from typing import Any

import pytest
import yaml
from clone import STAGES, TINY, Clone, stage_outputs
from selenium.webdriver.support.wait import WebDriverWait
from support import make_photo

from plumage.serving import load_predictor

CONFUSION, RELIABILITY, LEARNING_RATE = (
    f"reports/{path}.csv" for path in ("plot_data/confusion", "plot_data/reliability", "history")
)
DATA_PLOTS = {"Loss", "Accuracy", CONFUSION, RELIABILITY, LEARNING_RATE}
FOLDER = "it's 50% [new] & more"
COPY = "jürgen's C#birds 50% %20 [new]\t?&鳥🐦"
"""DVC can't make its copies for experiments there."""
MODEL = ("models/model.safetensors", "models/model.json", "models/run.json")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which the pipeline has run once, and what Git tracks of it is committed."""
    folder = tmp_path_factory.mktemp("end to end") / FOLDER
    clone = Clone.of_working_tree(folder, cold=True)  # once, as a user does
    clone.set(**TINY)
    clone.commit()
    assert clone.stages_run() == list(STAGES)
    clone.commit()
    return Clone(folder)


def test_every_output_is_there_and_a_second_run_does_nothing(clone: Clone) -> None:
    assert all((clone.folder / path).exists() for stage in STAGES for path in stage_outputs(stage))
    assert clone.stages_run() == []
    with (clone.folder / "reports" / "predictions.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == clone.report("metrics.json")["test"]["n"] == 8


def test_the_plan_is_printed_and_nothing_is_trained(clone: Clone) -> None:
    said = clone.run("plumage", "train", "--dry-run")
    assert "train.epochs" in said and "learning rate, up to 0.002, over" in said and "per epoch" in said
    assert "train.l2" not in said  # which training from scratch has not
    assert clone.stages_run() == [] and len(clone.runs()) == 1


def read(clone: Clone, *paths: str) -> list[bytes]:
    """The bytes of files of a clone."""
    return [(clone.folder / path).read_bytes() for path in paths]


def test_a_clone_shows_metrics_plots_and_experiments_without_the_data(clone: Clone) -> None:
    bare = Clone(clone.folder.parent / "bare")
    clone.run("git", "clone", "-q", str(clone.folder), str(bare.folder))
    assert not (bare.folder / ".dvc" / "cache").exists() and not (bare.folder / "models" / "model.safetensors").exists()
    accuracy = clone.report("metrics.json")["test"]["accuracy"]
    shown = json.loads(bare.run("dvc", "metrics", "show", "--json"))[""]["data"]["reports/metrics.json"]["data"]
    assert shown["test"]["accuracy"] == accuracy
    metrics = clone.report("metrics.json")
    metrics["test"]["accuracy"] += 0.5
    (bare.folder / "reports" / "metrics.json").write_text(json.dumps(metrics))
    changed = json.loads(bare.run("dvc", "metrics", "diff", "--json"))["reports/metrics.json"]
    assert changed == {"test.accuracy": {"old": accuracy, "new": accuracy + 0.5, "diff": 0.5}}
    bare.run("git", "checkout", "-q", ".")
    said = bare.run("dvc", "plots", "show", "--json")
    plots = json.loads(said[said.index("{") :])["data"]  # after DVC's warning about the pictures, which are not here
    assert set(plots) == DATA_PLOTS and all(plot["content"]["data"]["values"] for (plot,) in plots.values())
    table = list(csv.DictReader(bare.run("dvc", "exp", "show", "--csv").splitlines()))
    assert [float(row["test.accuracy"]) for row in table] == [pytest.approx(accuracy, abs=1e-5)] * 2
    assert "reports/registry.json" in bare.run("git", "ls-files", "reports")
    assert bare.run("git", "status", "--short") == ""


def test_one_run_carries_the_whole_execution(clone: Clone) -> None:
    (run,) = clone.runs()
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "efficientnet_lite0-scratch"
    key = json.loads((clone.folder / "models" / "run.json").read_text())["training_key"]
    assert run.data.tags["plumage.training_key"] == key
    assert run.data.params["train.epochs"] == "1" and run.data.params["split.val"] == "0.2"
    metrics = run.data.metrics
    assert metrics["test/accuracy"] == pytest.approx(clone.report("metrics.json")["test"]["accuracy"])
    assert {"train/loss", "train/lr", "val/loss", "val/accuracy", "train/images_per_second"} <= set(metrics)
    assert run.data.tags["git.dirty"] == "false" and "dvc.data/dataset" in run.data.tags
    temperature = json.loads((clone.folder / "models" / "model.json").read_text())["temperature"]
    assert metrics["temperature"] == temperature != 1
    assert metrics["test/ece"] != metrics["test/uncalibrated/ece"]
    files = {file.path for file in clone.mlflow.list_artifacts(run.info.run_id)}
    assert {"params.yaml", "data.json", "lineage.json", "per_class.json", "predictions.csv", "report.html"} <= files
    assert {data.dataset.name for data in run.inputs.dataset_inputs} == {"photos/train", "photos/val", "photos/test"}


def test_the_model_is_registered_once_and_can_be_used(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    registered = clone.report("registry.json")
    assert (registered["name"], registered["version"]) == ("bird-classifier", 1)
    assert sorted(registered["aliases"]) == ["challenger", "champion"]
    assert clone.stages_run("dvc", "repro", "-f", "-s", "register") == ["register"]
    assert clone.stages_run("dvc", "repro", "-f", "register") == list(STAGES)
    assert len(clone.mlflow.search_model_versions("name='bird-classifier'")) == 1
    photo = clone.folder.parent / "photo.jpg"
    photo.write_bytes(make_photo((200, 40, 50), 0))
    monkeypatch.chdir(clone.folder)
    ranked = load_predictor("models:/bird-classifier@champion").predict([photo], top_k=4)
    assert ranked == load_predictor("models").predict([photo], top_k=4)
    assert sum(probability for _, probability in ranked[0]) == pytest.approx(1.0, abs=1e-5)
    assert ranked[0][0][0] in clone.run("plumage", "predict", str(photo), "--model", "models:/bird-classifier@champion")
    (clone.folder.parent / "no photo.jpg").write_text("birds")
    said = clone.run("plumage", "predict", str(clone.folder.parent / "no photo.jpg"), code=3)
    assert "no photo.jpg" in said and "Traceback" not in said


def test_a_copy_is_complete_and_writes_nothing_into_the_original(clone: Clone) -> None:
    def content() -> dict[str, str]:
        files = (path for path in clone.folder.rglob("*") if path.is_file())
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    before, known, copy = content(), len(clone.runs()), Clone(clone.folder.parent / COPY)
    beside = set(clone.folder.parent.iterdir())
    shutil.copytree(clone.folder, copy.folder, symlinks=True)
    photo = copy.folder.parent / "copied.jpg"
    photo.write_bytes(make_photo((200, 40, 50), 0))
    clone.folder.rename(clone.folder.parent / "gone")  # so that the copy can't read it either
    try:
        assert copy.stages_run() == []
        champion = copy.run("plumage", "predict", str(photo), "--model", "models:/bird-classifier@champion")
        assert champion == copy.run("plumage", "predict", str(photo))
        (found,) = json.loads(copy.run("plumage", "lineage", "1", "--json"))
        assert len(found["packages"]) > 50 and found["params"]
        copy.set(data={"seed": 1})
        assert copy.stages_run() == list(STAGES)
        assert len(copy.runs()) == known + 1 and not clone.folder.exists()
    finally:
        (clone.folder.parent / "gone").rename(clone.folder)
    assert content() == before
    photo.unlink()
    shutil.rmtree(copy.folder)
    assert set(clone.folder.parent.iterdir()) == beside, "nothing appears beside the repository"


def test_a_version_says_what_it_was_made_from_and_a_file_whose_it_is(clone: Clone) -> None:
    said = clone.run("plumage", "lineage", "1")
    commit = clone.run("git", "rev-parse", "HEAD~").strip()
    assert said.startswith("bird-classifier version 1 @challenger @champion\n") and f"{commit}, clean" in said
    assert "data.images_per_species  12" in said and "torch " in said
    assert said == clone.run("plumage", "lineage", "models/model.safetensors")
    assert said == clone.run("plumage", "lineage", "bird-classifier@champion")
    (found,) = json.loads(clone.run("plumage", "lineage", "models/model.json", "--json"))
    assert found["metrics"] == clone.report("metrics.json") and len(found["packages"]) > 50
    assert "no registered version has this file" in clone.run("plumage", "lineage", "README.md", code=1)


def test_a_version_has_its_card_as_description_and_among_its_files(clone: Clone) -> None:
    version = clone.mlflow.get_model_version("bird-classifier", "1")
    (card,) = (clone.folder / "mlartifacts").rglob("MODEL_CARD.md")
    text = card.read_text()
    assert text.startswith("# bird-classifier") and "32 train, 8 val, 8 test" in text
    assert version.description.startswith("Gate: ")
    assert text.split("## Data")[0] in version.description and len(version.description) <= 5000


def test_a_version_comes_out_the_same_again_and_other_code_is_told_from_it(clone: Clone) -> None:
    runs, status = clone.runs(), clone.run("git", "status", "--short")
    assert "bird-classifier version 1: reproduced exactly" in clone.run("plumage", "reproduce", "1")
    config = clone.folder / "src" / "plumage" / "config.py"
    config.write_text(config.read_text().replace("label_smoothing=0.1", "label_smoothing=0.3", 1))
    clone.run("git", "commit", "-qm", "other smoothing", str(config))
    commit = clone.mlflow.get_model_version("bird-classifier", "1").tags["git.commit"]
    clone.mlflow.set_model_version_tag(
        "bird-classifier", "1", "git.commit", clone.run("git", "rev-parse", "HEAD").strip()
    )
    said = clone.run("plumage", "reproduce", "1", code=1)
    assert "data data/dataset: same" in said and "splits data/splits.csv: same" in said
    assert "weights models/model.safetensors: differs: was" in said and "not reproduced exactly" in said
    clone.mlflow.set_model_version_tag("bird-classifier", "1", "git.commit", commit)
    clone.run("git", "reset", "-q", "--soft", "HEAD~")
    clone.run("git", "checkout", "-q", "HEAD", "--", str(config))
    assert len(clone.runs()) == len(runs) and clone.run("git", "worktree", "list").count("\n") == 1
    assert clone.run("git", "status", "--short") == status


def test_a_clone_with_an_empty_store_brings_run_and_version_back_once(clone: Clone) -> None:
    clone.commit()
    remote, fresh = clone.folder.parent / "remote", Clone(clone.folder.parent / "fresh")
    clone.run("dvc", "remote", "add", "--local", "-d", "store", str(remote))
    clone.run("dvc", "push")
    clone.run("git", "clone", "-q", str(clone.folder), str(fresh.folder))
    assert "run `dvc checkout` or `dvc pull`" in fresh.run("plumage", "register", code=1)
    fresh.run("dvc", "remote", "add", "--local", "-d", "store", str(remote))
    fresh.run("dvc", "pull")
    assert fresh.stages_run() == []
    seen = []
    for _ in range(2):
        assert "bird-classifier version 1 (@challenger, @champion)" in fresh.run("plumage", "register")
        (run,) = fresh.runs()
        (version,) = fresh.mlflow.search_model_versions("name='bird-classifier'")
        points = {name: len(fresh.mlflow.get_metric_history(run.info.run_id, name)) for name in run.data.metrics}
        seen.append((run.info.run_id, points, version.creation_timestamp))
    assert seen[0] == seen[1]
    key = json.loads((fresh.folder / "models" / "run.json").read_text())["training_key"]
    assert run.data.tags["plumage.training_key"] == key and run.data.tags["plumage.restored"] == "true"
    # The original run also has the gate's settings, which belong to a registration and not to what is restored.
    original = next(
        found for found in clone.runs()
        if found.data.tags["plumage.training_key"] == key and found.data.params.items() >= run.data.params.items()
        and "plumage.stage.evaluate" in found.data.tags
    )  # fmt: skip
    assert {
        name for name in original.data.params.keys() - run.data.params.keys() if not name.startswith("register.")
    } == set()
    of_the_machine = ("system/", "train/images_per_second", "train/waiting_for_photos")
    kept = {name: value for name, value in original.data.metrics.items() if not name.startswith(of_the_machine)}
    assert run.data.metrics == kept
    # The photos that it was trained on are with the run that a version was registered from: there it may be another.
    files = {file.path for file in clone.mlflow.list_artifacts(original.info.run_id)} | {"training_photos.parquet"}
    assert {file.path for file in fresh.mlflow.list_artifacts(run.info.run_id)} == files
    assert fresh.run("git", "status", "--short") == "" == fresh.run("dvc", "status", "--quiet")
    assert "bird-classifier version 1" in fresh.run("plumage", "lineage", "models/model.safetensors")


def test_dvc_gets_a_version_that_gto_has_registered(clone: Clone) -> None:
    elsewhere = Clone(clone.folder.parent / "elsewhere")
    elsewhere.folder.mkdir()
    clone.run("gto", "register", "bird-classifier", "--version", "v1.0.0")
    elsewhere.run("dvc", "artifacts", "get", str(clone.folder), "bird-classifier", "--rev", "v1.0.0")
    assert read(elsewhere, *MODEL) == read(clone, *MODEL)
    photo = elsewhere.folder / "photo.jpg"
    photo.write_bytes(make_photo((200, 40, 50), 0))
    (ranked,) = load_predictor(str(elsewhere.folder / "models")).predict([photo], top_k=4)
    assert len(ranked) == 4


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ({"register": {"model_name": "other"}}, ["register"]),
        ({"evaluate": {"bins": 5}}, ["evaluate", "register"]),
        ({"split": {"seed": 7}}, ["split", "train", "folds", "evaluate", "register"]),
    ],
)
def test_a_changed_parameter_reruns_what_depends_on_it(clone: Clone, change: dict[str, Any], stages: list[str]) -> None:
    clone.set(**change)
    assert clone.stages_run() == ["check", *stages]
    assert clone.stages_run() == []


def test_folds_are_reported_beside_test_and_can_be_switched_off(clone: Clone) -> None:
    before, table = clone.report("metrics.json"), read(clone, "reports/folds.csv")
    clone.set(evaluate={"folds": 2})
    said = clone.run("dvc", "repro")
    assert "48 photos in 2 folds, each with a training; about " in said and "2 folds: accuracy " in said
    metrics = clone.report("metrics.json")
    assert {key: metrics[key] for key in before} == before
    assert metrics["folds"]["k"] == 2 and metrics["folds"]["n"] == 48
    assert clone.runs()[0].data.metrics["folds/accuracy"] == metrics["folds"]["accuracy"]
    assert "2 folds: accuracy " in (clone.folder / "reports" / "report.html").read_text(encoding="utf-8")
    clone.set(evaluate={"folds": None})
    assert clone.stages_run() == ["check", "register"], "the rest comes from DVC's cache"
    assert clone.report("metrics.json") == before and read(clone, "reports/folds.csv") == table


def test_going_back_to_earlier_parameters_restores_their_training(clone: Clone) -> None:
    files = (*MODEL, LEARNING_RATE, CONFUSION, RELIABILITY, "reports/metrics.json", "reports/predictions.csv")
    before, lr = read(clone, *files), yaml.safe_load((clone.folder / "params.yaml").read_text())["train"]["lr"]
    clone.set(train={"lr": 0.02})
    assert clone.stages_run() == ["check", "train", "folds", "evaluate", "register"]
    assert clone.stages_run() == [] and read(clone, *files)[0] != before[0]
    clone.set(train={"lr": lr})
    assert clone.stages_run() == ["check", "register"], "which asks the registry anew"
    assert read(clone, *files) == before


def test_training_again_to_the_same_bytes_leaves_nothing_to_run(clone: Clone) -> None:
    before, known = read(clone, *MODEL), len(clone.runs())
    assert clone.stages_run("dvc", "repro", "-f", "-s", "train") == ["train"]
    assert len(clone.runs()) == known + 1, "it was trained, and did not come from the cache"
    assert read(clone, *MODEL) == before
    assert clone.run("dvc", "status", "--quiet") == ""
    assert clone.stages_run() == []


def test_the_page_of_the_plots_is_drawn_without_a_network(clone: Clone, browser: Any) -> None:
    clone.run("dvc", "plots", "show")
    page = (clone.folder / "dvc_plots" / "index.html").as_uri()
    browser.get(page)
    WebDriverWait(browser, 30).until(
        lambda driver: len(driver.find_elements("css selector", "svg.marks")) == len(DATA_PLOTS)
    )
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    asked = [request["request"]["url"] for request in asked if request["documentURL"] == page]
    assert asked[0] == page and all(address.startswith(("file:", "data:")) for address in asked)


def test_dvc_shows_the_plots_and_what_changed_since_the_commit(clone: Clone) -> None:
    shown = json.loads(clone.run("dvc", "plots", "show", "--json"))["data"]
    pictures = {path.name for path in (clone.folder / "reports" / "plots").iterdir()}
    assert {f"reports/plots/{name}" for name in pictures} <= set(shown) and "mistakes.png" in pictures
    confusion = shown[CONFUSION][0]["content"]
    photos = [(row["actual"], row["predicted"]) for row in confusion["data"]["values"]]
    with (clone.folder / "reports" / "predictions.csv").open(newline="") as file:
        assert sorted(photos) == sorted((row["label"], row["pred_1"]) for row in csv.DictReader(file))
    assert confusion["spec"]["encoding"]["x"]["field"] == "actual"
    assert set(shown) >= DATA_PLOTS
    titles = [shown[name][0]["content"]["title"]["text"] for name in (CONFUSION, RELIABILITY, LEARNING_RATE)]
    assert titles == ["Confusion (at most 30 classes, the most confused ones)", "Reliability", "Learning rate"]

    changed = json.loads(clone.run("dvc", "plots", "diff", "--json"))["data"]
    for name in DATA_PLOTS:
        assert {row["rev"] for row in changed[name][0]["content"]["data"]["values"]} == {"HEAD", "workspace"}
    assert len(changed["reports/plots/confusion.png"]) == 2

    metrics = json.loads(clone.run("dvc", "metrics", "diff", "--json"))["reports/metrics.json"]
    assert metrics["test.loss"]["new"] == clone.report("metrics.json")["test"]["loss"] != metrics["test.loss"]["old"]
    assert {"test.loss_ci95.low", "test.uncalibrated.ece"} <= set(metrics)
    every = json.loads(clone.run("dvc", "metrics", "diff", "--all", "--json"))["reports/metrics.json"]
    assert every["temperature"]["new"] == clone.report("metrics.json")["temperature"]


def test_a_training_that_was_killed_goes_on_in_the_same_run(clone: Clone) -> None:
    known = {run.info.run_id for run in clone.runs()}
    clone.set(train={"epochs": 3, "seed": 3})
    dvc = clone.start("dvc", "repro", "train")
    assert dvc.stdout and any(line.startswith("epoch 2/3") for line in dvc.stdout)
    os.killpg(dvc.pid, signal.SIGKILL)
    dvc.communicate()
    clone.run("plumage", "repair")
    assert "resuming from epoch 3, step 0" in clone.run("dvc", "repro", "train")
    (run,) = (run for run in clone.runs() if run.info.run_id not in known)
    for metric in ("train/loss", "val/accuracy", "train/images_per_second"):
        assert [point.step for point in clone.mlflow.get_metric_history(run.info.run_id, metric)] == [1, 2, 3]
    assert run.info.status == "FINISHED"
    assert [file.name for file in (clone.folder / ".checkpoints").iterdir()] == ["duration.json"]
    weights = (clone.folder / "models" / "model.safetensors").read_bytes()
    clone.run("dvc", "repro", "-f", "-s", "train")
    assert (clone.folder / "models" / "model.safetensors").read_bytes() == weights


def test_a_wrong_parameter_anywhere_stops_the_first_stage_in_one_line(clone: Clone) -> None:
    clone.set(data={"seed": 1}, evaluate={"bins": 0})
    said = clone.run("dvc", "repro", code=255)
    assert "evaluate.bins: got 0; takes 2 to 1000" in said
    assert "Traceback" not in said
    clone.set(data={"seed": 0}, evaluate={"bins": 15})


def test_experiments_in_copies_use_ones_own_photos_and_land_in_the_same_store(clone: Clone) -> None:
    for number in range(6):
        for name, color in {"JAY": (60, 90, 200), "OWL": (120, 90, 60), "RED": (200, 40, 50)}.items():
            (clone.folder / "data" / "photos" / name).mkdir(exist_ok=True)
            (clone.folder / "data" / "photos" / name / f"{number}.jpg").write_bytes(make_photo(color, number))
    clone.set(data={"source": "folder"}, register={"model_name": "folder-classifier"})
    assert clone.stages_run()[:2] == ["check", "download"]
    clone.commit()
    assert clone.stages_run() == []
    clone.run("dvc", "exp", "run", "--temp", "-n", "hot", "-S", "train.lr=0.02")
    clone.run("dvc", "exp", "run", "--queue", "-n", "cold", "-S", "train.lr=0.0001")
    clone.run("sh", "-c", "dvc queue start -j 1 > /dev/null 2>&1")  # its worker would keep a pipe open for a while
    deadline = time.monotonic() + 300
    while "Success" not in (status := clone.run("dvc", "queue", "status")):
        assert "Failed" not in status and time.monotonic() < deadline, status
        time.sleep(1)
    clone.run("dvc", "queue", "stop")
    named = {run.info.run_name: run for run in clone.runs()}
    assert {"hot", "cold"} <= set(named)
    assert (named["hot"].data.params["train.lr"], named["cold"].data.params["train.lr"]) == ("0.02", "0.0001")
    assert all(
        named[name].info.status == "FINISHED" and "test/accuracy" in named[name].data.metrics
        for name in ("hot", "cold")
    )
    shown = clone.run("dvc", "exp", "show", "--csv")
    assert all(
        row["test.accuracy"] for row in csv.DictReader(shown.splitlines()) if row["Experiment"] in ("hot", "cold")
    )
    columns = clone.run("dvc", "exp", "show", "--csv", "--drop", ".*/").splitlines()[0].split(",")
    assert {"test.accuracy", "train.lr"} <= set(columns) and not any("/" in column for column in columns)
    clone.run("dvc", "exp", "apply", "hot")
    assert clone.stages_run() == [], "the experiment's lock file names other photos than lie here"
    (clone.folder / "data" / "photos" / "OWL" / "5.jpg").unlink()
    assert "download" in clone.run("dvc", "status")
