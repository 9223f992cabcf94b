"""What DVC and MLflow record is what ran, whatever is edited meanwhile, and a wrong parameter costs no output."""

import json
from typing import Any

import pytest
from clone import TINY, Clone

from plumage.common.dvc_files import outputs_of, read_stages
from plumage.common.yaml_file import read_yaml

pytestmark = pytest.mark.slow

EDITING = """
import runpy, sys
from pathlib import Path

stage, old, new = sys.argv[1:]
sys.argv = [f"pipeline/{stage}.py"]
sys.path.insert(0, "pipeline")
import _stage

class Inputs(_stage.StageInputs):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        params = Path("params.yaml")
        params.write_text(params.read_text().replace(old, new))

_stage.StageInputs = Inputs
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Run a stage as its script does, and edit params.yaml once the stage has read it."""
EDITED = {
    "check": ("bins: 15", "bins: 14"),
    "download": ("min_size: 32", "min_size: 31"),
    "split": ("similarity: 0.94", "similarity: 0.95"),
    "evaluate": ("bootstrap: 100", "bootstrap: 101"),
    "register": ("margin: 0.01", "margin: 0.02"),
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which the pipeline has run once, and what Git tracks of it is committed."""
    clone = Clone.of_working_tree(tmp_path_factory.mktemp("recorded"))
    clone.set(**TINY)
    clone.set(train={"epochs": 2})
    clone.run("dvc", "repro")
    clone.commit()
    return clone


def outputs(clone: Clone) -> dict[str, bytes]:
    """Every file that a stage has written, by its path."""
    stages = read_stages(clone.folder / "dvc.yaml").values()
    paths = [clone.folder / path for spec in stages for path in outputs_of(spec)]
    files = [file for path in paths for file in [path, *path.rglob("*")] if file.is_file()]
    return {str(file): file.read_bytes() for file in files}


def recorded(clone: Clone, stage: str) -> Any:
    """The value of `train` that dvc.lock has for a stage."""
    return read_yaml(clone.folder / "dvc.lock")["stages"][stage]["params"]["params.yaml"]["train"]


@pytest.mark.parametrize("stage", EDITED)
def test_a_stage_whose_parameters_are_edited_meanwhile_fails_and_keeps_the_old_outputs(
    clone: Clone, stage: str
) -> None:
    params, before = (clone.folder / "params.yaml").read_bytes(), outputs(clone)
    said = clone.run("python", "-c", EDITING, stage, *EDITED[stage], code=1)
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    old, new = (text.split(": ")[1] for text in EDITED[stage])
    key = EDITED[stage][0].split(": ")[0]
    assert f"error: {stage}: changed while it ran" in line and f"{key} in params.yaml from {old} to {new}" in line
    assert outputs(clone) == before
    (clone.folder / "params.yaml").write_bytes(params)


def test_a_training_is_kept_when_the_edit_is_undone_and_its_run_stays_the_only_one(clone: Clone) -> None:
    known = {run.info.run_id for run in clone.runs()}
    clone.set(train={"seed": 5})
    params = (clone.folder / "params.yaml").read_text()
    dvc, said = clone.start("dvc", "repro"), ""
    assert dvc.stdout
    for line in dvc.stdout:
        said += line
        if line.startswith("epoch 1/2"):
            clone.set(train={"lr": 0.01}, evaluate={"bins": 14})
    assert dvc.wait() and "error: train: changed while it ran, so DVC records nothing: train.lr in params.yaml" in said
    assert recorded(clone, "train")["seed"] == 0, "the entry of the training before"
    (run,) = (run for run in clone.runs() if run.info.run_id not in known)
    assert (run.info.status, run.data.params["train.lr"]) == ("FAILED", "0.002")

    (clone.folder / "params.yaml").write_text(params)
    clone.set(evaluate={"bins": 14})
    said = clone.run("dvc", "repro")
    assert "resuming from epoch 3, step 0" in said
    assert recorded(clone, "train")["lr"] is None and recorded(clone, "train")["seed"] == 5
    (run,) = (run for run in clone.runs() if run.info.run_id not in known)
    assert (run.info.status, run.data.params["train.lr"]) == ("FINISHED", "0.002")
    assert run.data.params["evaluate.bins"] == "14", "which evaluate used; the training did not"
    assert [point.step for point in clone.mlflow.get_metric_history(run.info.run_id, "train/loss")] == [1, 2]
    best = json.loads((clone.folder / "models" / "run.json").read_text())["best_epoch"]
    assert run.data.metrics["best_epoch"] == best


def test_a_wrong_parameter_of_an_experiment_costs_no_output_and_is_undone(clone: Clone) -> None:
    clone.commit()
    before, path = outputs(clone), clone.folder / "params.yaml"
    params, cold = (
        path.read_bytes(),
        Clone(clone.folder, cold=True),
    )  # the stage looks at the command line that started it
    for wrong, said in {
        "train.l2=1": "train.l2: got 1.0 with train.recipe scratch",
        "+train.lrr=1": "train.lrr: unknown key; did you mean train.lr?",
        "model.weights=none.pth": "none.pth is not a file",
    }.items():
        output = cold.run("dvc", "exp", "run", "-S", wrong, "-S", "train.lr=0.5", code=255)
        assert f"{said}" in output and "what -S set in params.yaml is undone" in output and "Traceback" not in output
        assert path.read_bytes() == params and outputs(clone) == before
        assert clone.run("git", "status", "--short") == ""
    clone.set(evaluate={"tta": True})  # not committed
    edited = read_yaml(path)
    cold.run("dvc", "exp", "run", "-S", "model.name=foo", code=255)
    assert read_yaml(path) == edited and outputs(clone) == before
    path.write_bytes(params)


def test_evaluate_adds_nothing_for_parameters_that_the_model_was_not_made_with(clone: Clone) -> None:
    known, params = len(clone.runs()), (clone.folder / "params.yaml").read_bytes()
    clone.set(split={"seed": 9})
    said = clone.run("dvc", "repro", "-f", "-s", "evaluate", code=255)
    assert "changed since stage split ran: split.seed in params.yaml from 0 to 9; run `dvc repro`" in said
    assert len(clone.runs()) == known
    (clone.folder / "params.yaml").write_bytes(params)
