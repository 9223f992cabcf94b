"""A stage ends with one line if what DVC is about to record is not what it ran with."""

from collections.abc import Callable
from pathlib import Path

import pytest

from plumage.errors import ChangedError
from plumage.stage_inputs import StageInputs, stage_code

DVC_YAML = """\
stages:
  split:
    cmd: python pipeline/split.py
    deps: ["${data.path}", src/split.py]
    params: [split]
    outs: [data/splits.csv]
  train:
    cmd: python pipeline/train.py
    deps: [data/splits.csv, src/train.py]
    params: [model, train]
"""
PARAMS = "# birds\ndata: {path: photos}\nsplit: {seed: 0}\ntrain: {lr: null, seed: 1}\nevaluate: {bins: 15}\n"
LOCK = "stages: {split: {params: {params.yaml: {split: {seed: 0}}}}, train: {params: {params.yaml: {train: {lr: 5}}}}}"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = {
        "dvc.yaml": DVC_YAML,
        "params.yaml": PARAMS,
        "dvc.lock": LOCK,
        "photos/a.jpg": "a",
        "data/splits.csv": "key",
        "src/train.py": "1",
        "src/split.py": "1",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def edit(name: str, old: str, new: str) -> Callable[[Path], object]:
    return lambda project: (project / name).write_text((project / name).read_text().replace(old, new))


def started(stage: str) -> StageInputs:
    return StageInputs(stage, stage_code(stage))


@pytest.mark.parametrize(
    ("stage", "change", "said"),
    [
        ("train", edit("params.yaml", "lr: null", "lr: 0.01"), "train.lr in params.yaml from 0.002 to 0.01"),
        ("train", edit("params.yaml", "seed: 1", "seed: 1, lrr: 1"), "train.lrr in params.yaml from null to 1"),
        (
            "train",
            edit("params.yaml", "evaluate", "model: {dropout: 0.5}\nevaluate"),
            "model.dropout in params.yaml from null",
        ),
        ("train", edit("params.yaml", "lr: null", "lr: ["), "params.yaml, line"),
        ("train", edit("params.yaml", "# birds", "<<<<<<< ours"), "params.yaml: in a merge conflict"),
        ("train", lambda project: (project / "params.yaml").unlink(), "params.yaml: can't be read"),
        ("train", edit("src/train.py", "1", "2"), "src/train.py"),
        ("train", lambda project: (project / "src/train.py").unlink(), "src/train.py"),
        ("train", edit("data/splits.csv", "key", "keys"), "data/splits.csv"),
        ("split", lambda project: (project / "photos/b.jpg").write_text("b"), "photos/b.jpg"),
        ("split", edit("params.yaml", "seed: 0", "seed: 3"), "split.seed in params.yaml from 0 to 3"),
    ],
)
def test_what_the_stage_depends_on_has_changed(
    project: Path, stage: str, change: Callable[[Path], object], said: str
) -> None:
    inputs = started(stage)
    inputs.check()
    change(project)
    with pytest.raises(ChangedError) as caught:
        inputs.check()
    line = str(caught.value)
    assert said in line and "\n" not in line and "run `dvc repro`" in line
    assert ("keep this training" in line) == (stage == "train")


@pytest.mark.parametrize(
    "change",
    [
        edit("params.yaml", "# birds", "# a comment"),
        edit("params.yaml", "lr: null", "lr: 0.002"),  # the recipe's own value
        edit("params.yaml", "lr: null, ", ""),
        edit("params.yaml", "bins: 15", "bins: 5"),  # another stage's
        edit("params.yaml", "seed: 0", "seed: 7"),
        edit("src/split.py", "1", "2"),
        edit("dvc.yaml", "src/train.py", "src/other.py"),  # DVC itself notices, next time
        lambda project: (project / "data/splits.csv").touch(),
        lambda project: (project / "photos/b.jpg").write_text("b"),
    ],
)
def test_what_the_stage_does_not_depend_on_may_change(project: Path, change: Callable[[Path], object]) -> None:
    inputs = started("train")
    change(project)
    inputs.check()


def test_a_change_that_was_undone_counts_as_none(project: Path) -> None:
    inputs = started("train")
    for name, old, new in (("params.yaml", "lr: null", "lr: 1"), ("src/train.py", "1", "2")):
        edit(name, old, new)(project)
        edit(name, new, old)(project)
    inputs.check()


def test_many_changes_are_still_one_line(project: Path) -> None:
    inputs = started("split")
    for name in "bcdef":
        (project / "photos" / name).write_text(name)
    with pytest.raises(ChangedError, match="photos/b, photos/c, photos/d and 2 more; run"):
        inputs.check()


def test_values_of_earlier_stages_are_those_that_dvc_has_recorded(project: Path) -> None:
    started("train").check_earlier()
    edit("params.yaml", "seed: 0", "seed: 7")(project)
    started("split").check_earlier()
    with pytest.raises(
        ChangedError, match="since stage split ran: split.seed in params.yaml from 0 to 7; run `dvc repro`"
    ):
        started("train").check_earlier()


def test_a_password_in_an_address_is_not_shown(project: Path) -> None:
    edit("dvc.yaml", "params: [split]", "params: [split, data]")(project)
    inputs = started("split")
    edit("params.yaml", "path: photos", "path: photos, url: 'https://me:hunter2@host/x.zip'")(project)
    with pytest.raises(ChangedError) as caught:
        inputs.check()
    assert "host/x.zip" in str(caught.value) and "hunter2" not in str(caught.value)
