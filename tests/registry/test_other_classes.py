"""A challenger with other classes than the champion's: compared on the shared ones, or a model of its own, and said loudly."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from registering import CLASSES, NAME, TEST, add, hits, make_model
from safetensors.torch import load_file, save_file

from plumage.cli.data import check
from plumage.common.class_names import ClassNames
from plumage.config import Data, Params
from plumage.data.dataset.store import Dataset
from plumage.errors import ModelError
from plumage.evaluation.predictions import compute_predictions
from plumage.registry.class_change import announce_before_training
from plumage.registry.class_sets import class_set
from plumage.registry.decision import summary
from plumage.registry.promote import champions, rollback

TWO = ["jay", "owl"]
SAMPLE = ["ringed tern", "blue wader", "red finch"]


def with_class(folder: Path, model: Path, classes: list[str], bias: float = -100.0) -> Path:
    """A model like that in `model`, with one more class, which it never predicts unless `bias` is high."""
    shutil.copytree(model, folder)
    weights = load_file(model / "model.safetensors")
    zeros = 0 * weights["classifier.weight"][:1]
    weights["classifier.weight"] = torch.cat([weights["classifier.weight"], zeros])
    weights["classifier.bias"] = torch.cat([weights["classifier.bias"], zeros[:, 0] + bias])
    save_file(weights, folder / "model.safetensors")
    named(folder, classes)
    return folder


def named(model: Path, classes: list[str]) -> None:
    """Give the model's classes these names."""
    description = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps(description | {"classes": classes}))


def aliases() -> dict[str, int]:
    return {alias: int(number) for alias, number in MlflowClient().get_registered_model(NAME).aliases.items()}


def test_answers_are_found_by_name_whatever_the_order_and_merged_columns_are_summed(photos: Path) -> None:
    dataset, model = Dataset(photos / "dataset"), make_model(photos / "model", 5)
    straight = compute_predictions(model, dataset, TEST, CLASSES)
    assert len(set(straight)) > 1
    named(model, ["OWL", "wren", "jay"])
    turned = dict(zip(CLASSES, ["owl", "wren", "jay"], strict=True))
    assert compute_predictions(model, dataset, TEST, CLASSES) == [turned[answer] for answer in straight]
    assert set(compute_predictions(model, dataset, TEST, TWO)) <= set(TWO), "restricted to two classes"
    merged = ClassNames({"wren": "owl"})
    both = compute_predictions(model, dataset, TEST, TWO, merged)
    assert both.count("owl") >= compute_predictions(model, dataset, TEST, TWO).count("owl")
    with pytest.raises(ModelError, match="does not know 'tit'"):
        compute_predictions(model, dataset, TEST, ["owl", "tit"])


def test_a_first_champion_of_accuracy_0_167_does_not_keep_its_place_against_0_958_on_24_photos(photos: Path) -> None:
    test = TEST[:24]
    assert add(photos, 1, hits(4, of=24), test=test)["decision"]["test_accuracy"] == 0.166667
    better = add(photos, 2, hits(23, of=24), test=test)
    assert better["decision"]["promoted"] and aliases()["champion"] == 2


def test_one_s_own_photos_after_the_sample_are_champion_and_each_set_of_classes_keeps_its_own(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample, own = (f"champion-{class_set(classes)}" for classes in (SAMPLE, CLASSES))
    add(photos, 1, hits(40), classes=SAMPLE, from_sample=True)
    capsys.readouterr()
    announce_before_training(Params(data=Data(source="folder")), CLASSES)
    announced = capsys.readouterr().out
    assert announced.startswith(
        f"{NAME}@champion (version 1) knows other classes ('ringed tern', 'blue wader', 'red finch'): "
    )
    assert f"this is a different model; it becomes @champion, and version 1 becomes @{sample}" in announced

    for label in CLASSES:
        (photos / f"data/photos/{label}").mkdir(parents=True)
        (photos / f"data/photos/{label}/1.jpg").touch()
    (photos / "params.yaml").write_text("data: {source: folder, path: data/photos}")
    (photos / "dvc.yaml").touch()
    check()
    assert capsys.readouterr().out.split() == announced.split(), "plumage data check says the same"

    first = add(photos, 2, hits(20))
    assert first["decision"]["promoted"]
    assert first["decision"]["reason"].endswith(
        "knows other classes: this is a different model, the first of its 3 classes"
    )
    said = summary(first) + capsys.readouterr().out
    assert said.count("'ringed tern'") == 1, "what training announced, registering says once"
    assert first["warning"].startswith(
        "WARNING: @champion has other classes now: 3 instead of 3 classes (new: 'jay', 'owl', 'wren'; gone: 'ringed tern', "
    )
    assert aliases() == {"challenger": 2, "champion": 2, sample: 1}
    assert champions(photos, NAME).kept == {sample: 1}
    description = MlflowClient().get_registered_model(NAME).description
    links = [f"- **[Version {number}](#/models/{NAME}/versions/{number})**" for number in (2, 1)]
    assert [line.split(" since ")[0] for line in description.splitlines()[2:]] == links

    again = add(photos, 3, hits(60), classes=SAMPLE, from_sample=True)
    assert not again["decision"]["promoted"] and aliases()["champion"] == 2
    assert "trained on the sample, and champion version 2 on your own photos" in again["decision"]["reason"]

    rollback(photos, NAME, None, "to see")
    assert aliases() == {"challenger": 3, "champion": 1, own: 2}
    worse = add(photos, 4, hits(20, first=5))
    assert aliases()["champion"] == 1, "a person replaced version 2, so the gate does not bring it back"
    assert worse["decision"]["compared_with"] == 2 and worse["decision"]["comparison"]["photos"] == 60
    better = add(photos, 5, hits(60))
    assert better["decision"]["promoted"] and better["decision"]["compared_with"] == 2
    assert aliases() == {"challenger": 5, "champion": 5, sample: 1}
    assert [(entry.before, entry.to) for entry in champions(photos, NAME).history] == [
        (None, 1),
        (1, 2),
        (2, 1),
        (1, 5),
    ]
    assert champions(photos, NAME).history[-1].why.endswith("(comparison 3 on these test photos)")

    add(photos, 6, hits(60), classes=["kite", "lark", "tern"])
    assert aliases() == {"challenger": 6, "champion": 6, sample: 1, own: 5}
    back = add(photos, 7, hits(20))
    assert not back["decision"]["promoted"] and back["decision"]["champion"] == 5
    assert "version 5, the champion of these classes, is back in place of version 6" in back["decision"]["reason"]
    assert aliases()["champion"] == 5


def test_a_challenger_with_one_more_class_is_compared_on_the_shared_ones_and_has_a_floor_for_the_new(
    photos: Path,
) -> None:
    dataset = Dataset(photos / "dataset")
    of_two = [row for row in TEST if dataset.labels[row] in TWO]
    old = make_model(photos / "old", 1, TWO)
    add(photos, 1, hits(20, of=40), test=of_two, model=old)
    is_new = np.array([dataset.labels[row] == "wren" for row in TEST])

    poor = add(photos, 2, ~is_new, model=with_class(photos / "poor", old, CLASSES))["decision"]
    assert (
        not poor["promoted"]
        and "0 of 20 photos of new classes right, recall not shown to be over 33.3%" in poor["reason"]
    )
    good = add(photos, 3, hits(60), model=with_class(photos / "good", old, CLASSES, -50.0))
    decision = good["decision"]
    assert decision["promoted"] and good["warning"] is None, decision["reason"]
    assert decision["classes"] == {
        "shared": 2, "new": ["wren"], "lost": [],
        "num_classes": 3, "photos": 20, "right": 20, "shared_photos": 40, "taken": 0,
    }  # fmt: skip
    assert decision["rule"] == {"name": "shared_classes", "alpha": 0.05, "margin": 0.1581, "min_new_recall": 0.2}
    assert decision["comparison"]["photos"] == 40 and decision["comparison"]["difference"] == 0
    assert " on 40 photos of the 2 classes that both know: not worse by 15.8 points (" in decision["reason"]
    assert aliases() == {"challenger": 3, "champion": 3, f"champion-{class_set(TWO)}": 1}


def test_renamed_classes_are_the_same_classes_to_the_gate(photos: Path) -> None:
    """The champion still gives the old names, so a challenger that is not worse takes its place."""
    old = make_model(photos / "old", 1, ["Bluejay", "owl", "wren"])
    new = photos / "new"
    shutil.copytree(old, new)
    named(new, CLASSES)
    add(photos, 1, hits(20), model=old)
    outcome = add(photos, 2, hits(60), model=new, names={"bluejay": "jay"})
    decision = outcome["decision"]
    assert decision["promoted"] and decision["classes"] == {"shared": 3, "new": [], "lost": []}
    assert decision["comparison"]["photos"] == 60 and decision["comparison"]["difference"] == 0
    assert "has other names for the same classes now (new: 'jay'; gone: 'Bluejay'). Version 1 is " in outcome["warning"]


def test_a_challenger_that_lacks_a_class_is_champion_only_if_it_is_not_worse_on_the_others(photos: Path) -> None:
    dataset = Dataset(photos / "dataset")
    old = make_model(photos / "old", 1)
    add(photos, 1, hits(20), model=old)
    of_two = [row for row in TEST if dataset.labels[row] in TWO]
    new = photos / "new"
    shutil.copytree(old, new)
    weights = load_file(old / "model.safetensors")
    save_file(
        {key: value[:2].clone() if key.startswith("classifier.") else value for key, value in weights.items()},
        new / "model.safetensors",
    )
    named(new, TWO)
    outcome = add(photos, 2, hits(40, of=40), test=of_two, model=new)
    assert outcome["decision"]["promoted"] and outcome["decision"]["classes"]["lost"] == ["wren"]
    assert "has other classes now: 2 instead of 3 classes (new: none; gone: 'wren')" in outcome["warning"]
    assert aliases()[f"champion-{class_set(CLASSES)}"] == 1
