"""`plumage new` looks at a person's photos and sets what depends on them in params.yaml, and nothing else."""

import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
from support import make_photo

from plumage.cli.main import main
from plumage.cli.suggestion import Photos, suggest
from plumage.common.yaml_file import read_yaml
from plumage.errors import DataError
from plumage.params import load_params

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with this repository's params.yaml, and no photos."""
    project = tmp_path / "project"
    project.mkdir()
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, project / name)
    return project


def new(project: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str | None:
    """Run `plumage new` in the project; return its error."""
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "argv", ["plumage", "new", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code if isinstance(ended.value.code, str) else None


def test_it_sets_what_the_photos_need_and_leaves_every_other_line(
    project: Path, class_folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (project / "params.yaml").read_text()
    assert new(project, monkeypatch, str(class_folders), "--dry-run") is None
    shown = capsys.readouterr().out
    assert (project / "params.yaml").read_text() == before and "would change params.yaml" in shown
    assert new(project, monkeypatch, str(class_folders)) is None
    shown = capsys.readouterr().out
    after = (project / "params.yaml").read_text()
    changed = [(old, now) for old, now in zip(before.splitlines(), after.splitlines(), strict=True) if old != now]
    assert {now.split(":")[0].strip() for _, now in changed} == {
        "source", "path", "val", "test", "name", "weights", "image_size", "recipe", "folds",
    }  # fmt: skip
    for old, now in changed:
        assert old.partition("#")[2] == now.partition("#")[2]  # the comment
        assert f"\n-{old}\n" in shown and f"\n+{now}\n" in shown
    assert shown.splitlines()[0] == "40 photos of 4 classes (10 each), shorter side about 32 pixels"
    assert "train.recipe: probe  (about 24 photos for train" in shown
    assert shown.splitlines()[-1] == "changed params.yaml; then run `dvc repro`"
    assert new(project, monkeypatch, str(class_folders)) is None
    assert capsys.readouterr().out.endswith("\n\nparams.yaml has these values already; run `dvc repro`\n")
    assert (project / "params.yaml").read_text() == after
    params = load_params(project / "params.yaml")
    assert (params.data.source, params.data.path) == ("folder", str(class_folders))
    assert (params.model.name, params.model.weights, params.train.recipe) == ("efficientnet_lite0", "imagenet", "probe")


def test_a_folder_in_the_project_is_named_relative_to_it_and_splits_are_kept(
    project: Path, class_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split in ("train", "valid", "test"):
        shutil.copytree(class_folders, project / "my birds #1" / split)
    (project / "deep").mkdir()
    assert new(project / "deep", monkeypatch, "../my birds #1") is None
    params = load_params(project / "params.yaml")
    assert (params.data.path, params.split.strategy) == ("my birds #1", "official")


def test_an_archive_is_read_in_place(project: Path, class_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(project / "birds.zip", "w") as archive:
        for photo in class_folders.rglob("*.jpg"):
            archive.write(photo, photo.relative_to(class_folders))
    assert new(project, monkeypatch, "birds.zip") is None
    assert read_yaml(project / "params.yaml")["data"]["source"] == "archive"
    assert sorted(path.name for path in project.rglob("*") if path.is_file()) == [
        "birds.zip",
        "dvc.yaml",
        "params.yaml",
    ]


def test_what_the_stage_would_refuse_is_one_line_and_changes_nothing(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def photo(name: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(make_photo((60, 90, 200), 0))

    (tmp_path / "none").mkdir()
    photo("loose/1.jpg")
    photo("one/JAY/1.jpg")
    photo("nested/JAY/a/b/1.jpg")
    for number in range(3):
        photo(f"nested/JAY/{number}.jpg")
        photo(f"nested/OWL/{number}.jpg")
    photo("few/JAY/1.jpg")
    photo("few/OWL/1.jpg")
    photo(os.fsdecode(b"caf\xe9/1.jpg"))
    before = (project / "params.yaml").read_bytes()
    for folder, message in {
        "absent": "no such folder or archive", "none": "holds no photos", "loose": "are in no class folder",
        "one": "all photos are of one class, 'JAY'", "nested": "is in a folder inside the class folder JAY",
        "few": "too few photos: 'JAY' has 1, 'OWL' has 1", "project/params.yaml": "is not a complete zip",
    }.items():  # fmt: skip
        error = new(project, monkeypatch, str(tmp_path / folder))
        assert error and error.startswith("error: ") and message in error and "\n" not in error
    assert (project / "params.yaml").read_bytes() == before


def test_a_key_that_the_recipe_does_not_take_stops_it(
    project: Path, class_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = (project / "params.yaml").read_text()
    text = old.replace("\n  lr:\n", "\n  lr: 0.01\n")
    assert text != old
    (project / "params.yaml").write_text(text)
    error = new(project, monkeypatch, str(class_folders))
    assert error and "train.lr: got 0.01 with train.recipe probe" in error
    assert (project / "params.yaml").read_text() == text


def values(photos: Photos) -> dict[str, object]:
    return {one.key: one.value for one in suggest(photos, "birds")}


def test_more_photos_get_a_recipe_that_learns_more_and_a_smaller_share_for_test() -> None:
    recipes, shares = [], []
    for per_class in (10, 100, 2_000, 20_000):
        classes = {f"class {number}": per_class for number in range(100)}
        found = values(Photos("folder", classes, {"none": 100 * per_class}, 500))
        recipes.append(found["train.recipe"])
        shares.append(found["split.test"])
    assert recipes == ["probe", "finetune", "finetune", "scratch"] and shares == [0.1, 0.1, 0.1, 0.1]
    assert values(Photos("folder", {"a": 120, "b": 120}, {"none": 240}, 500))["split.test"] == 0.3
    assert values(Photos("folder", {"a": 120, "b": 120}, {"none": 240}, 100))["model.image_size"] == 224
    drawn = values(Photos("folder", {"a": 500, "b": 500}, {"train": 900, "val": 100}, 500))
    assert drawn["split.strategy"] == "official" and drawn["split.test"] == 0.15 and "split.val" not in drawn
    assert [found["evaluate.folds"], drawn["evaluate.folds"]] == [None, None] and found["train.class_weights"] == "none"
    uneven = values(Photos("folder", {"a": 120, "b": 10}, {"none": 130}, 500))
    assert (uneven["train.class_weights"], uneven["evaluate.folds"]) == ("balanced", 5)
    with pytest.raises(DataError, match="'b' has 2; every class takes 3"):
        values(Photos("folder", {"a": 5, "b": 2}, {"none": 7}, 500))
