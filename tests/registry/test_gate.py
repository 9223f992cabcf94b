"""A challenger takes the champion's place only for a reason that holds, and the decision says each that does not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from mlflow import MlflowClient
from registering import CLASSES, COUNT, NAME, add, hits, make_model, make_photos, write_answers
from scipy.stats import binom

from plumage.config import Register
from plumage.data.dataset.store import Dataset
from plumage.errors import ModelError, TrackingError
from plumage.evaluation.predictions import compute_predictions
from plumage.registry.gate import BY_HAND, Challenger, Champion, Gate, sentences
from plumage.registry.training_photos import write_training_photos

TEST, TRAIN = range(COUNT // 2, COUNT), range(COUNT // 2)


def unavailable() -> NoReturn:
    raise TrackingError("it is gone")


class Bench:
    """A gate over 60 test photos, with a challenger and a champion whose right answers a test chooses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dataset = make_photos(folder / "dataset")
        self.champion_trained_on(TRAIN)
        make_model(folder / "models", 0)

    def champion_trained_on(self, rows: range) -> None:
        write_training_photos(self.folder / "photos.parquet", self.dataset, rows)

    def decide(self, challenger: np.ndarray, champion: np.ndarray | None, **settings: Any) -> dict[str, Any]:
        write_answers(self.folder / "new.csv", self.dataset, TEST, challenger)
        old: Champion | None = None
        if champion is not None:
            write_answers(self.folder / "old.csv", self.dataset, TEST, champion)
            files = [lambda name=name: self.folder / name for name in ("old.csv", "photos.parquet")]
            old = Champion(1, True, *files, model=unavailable)
        metrics = {"test": {"accuracy": float(challenger.mean()), "ece": 0.05}}
        new = Challenger(2, self.folder / "models", metrics, self.folder / "new.csv", None)
        decision = Gate(Register(**settings), self.dataset, TEST, 0.94).decide(new, old)
        json.dumps(decision, allow_nan=False)  # what registry.json takes
        return decision


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_tie_and_a_difference_within_noise_do_not_promote_and_a_real_one_does(bench: Bench) -> None:
    tie = bench.decide(hits(40), hits(40, first=20))
    assert not tie["promoted"] and tie["comparison"]["difference"] == 0
    noise = bench.decide(hits(44), hits(40))
    assert not noise["promoted"] and noise["comparison"]["p_value"] == 0.0625
    assert noise["reason"] == (
        "0.7333 against 0.6667 of champion version 1 on 60 photos: not shown to be better (McNemar p = 0.062, over 0.05)"
    )
    better = bench.decide(hits(46), hits(40))
    assert better["promoted"] and better["comparison"]["p_value"] == pytest.approx(1 / 64)
    assert "better (McNemar p = 0.016, at most 0.05)" in better["reason"]
    assert not bench.decide(hits(46), hits(40), alpha=0.01)["promoted"]


def test_the_decision_holds_all_figures_that_it_rests_on(bench: Bench) -> None:
    decision = bench.decide(hits(46), hits(30, first=20))
    comparison = decision["comparison"]
    assert (decision["test_accuracy"], decision["champion_test_accuracy"]) == pytest.approx((46 / 60, 0.5))
    assert (comparison["only_challenger_right"], comparison["only_champion_right"]) == (20, 4)
    assert comparison["difference"] == pytest.approx(16 / 60, abs=1e-6)
    assert comparison["p_value"] == pytest.approx(binom.sf(19, 24, 0.5), rel=1e-5)
    for interval in ("score_interval", "bootstrap_interval"):
        assert 0 < comparison[interval]["low"] < 16 / 60 < comparison[interval]["high"] < 1
    assert decision["rule"] == {"name": "superior", "alpha": 0.05, "min_photos": 50}
    assert decision["left_out"] == {"checked": True, "same_photos": 0, "near_duplicates": 0, "keys": []}
    (line,) = sentences(decision)
    assert "difference +0.2667 (90%: " in line and "20 only this one gets right, 4 only the champion (logged)" in line


def test_not_inferior_promotes_an_equal_one_where_the_margin_is_wide_enough_to_tell(bench: Bench) -> None:
    wide = bench.decide(hits(40), hits(40), gate="not_inferior", margin=0.1)
    assert wide["promoted"] and wide["rule"]["margin"] == 0.1 and "not worse by 0.1" in wide["reason"]
    narrow = bench.decide(hits(40), hits(40), gate="not_inferior", margin=0.01)
    assert not narrow["promoted"] and "may be worse by 0.01 (the difference is at least -0.0" in narrow["reason"]
    worse = bench.decide(hits(30), hits(40), gate="not_inferior", margin=0.1)
    assert not worse["promoted"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"min_accuracy": 0.9}, "min_accuracy is 0.9, this is 0.8"),
        ({"min_class_recall": 0.8}, "min_class_recall is 0.8, this is 0.4"),
        ({"max_ece": 0.04}, "max_ece is 0.04, this is 0.05"),
        ({"max_size_mb": 1.0}, "max_size_mb is 1, this is 13."),
        ({"max_latency_ms": 1e-3}, "max_latency_ms is 0.001, this is "),
    ],
)
def test_floors_and_ceilings_hold_back_the_first_and_a_better_one_alike(bench: Bench, settings: Any, told: str) -> None:
    right = np.array([bench.dataset.labels[row] != "wren" or row % 5 < 2 for row in TEST])
    assert right.mean() == 0.8
    for champion in (None, hits(20)):
        decision = bench.decide(right, champion, **settings)
        (limit,) = decision["limits"]
        assert not decision["promoted"] and told in decision["reason"] and not limit["met"]
        assert limit["name"] in settings and any(line.endswith("not met") for line in sentences(decision))
        generous = {name: 0.1 if name.startswith("min") else 1e4 for name in settings if name != "max_ece"}
        decision = bench.decide(right, champion, **(generous or {"max_ece": 0.5}))
        assert decision["promoted"] and decision["limits"][0]["met"]


def test_the_worst_class_is_named_and_every_reason_is_given(bench: Bench) -> None:
    right = np.array([bench.dataset.labels[row] != "owl" for row in TEST])
    decision = bench.decide(right, right, min_class_recall=0.5, min_accuracy=0.9)
    assert [(limit["name"], limit.get("label")) for limit in decision["limits"]] == [
        ("min_accuracy", None),
        ("min_class_recall", "owl"),
    ]
    assert [part.split()[0] for part in decision["reason"].split("; ")] == [
        "min_accuracy",
        "min_class_recall",
        "0.6667",
    ]


def test_photos_that_the_champion_was_trained_on_are_left_out_of_the_comparison(bench: Bench) -> None:
    """It knows these by heart; without them it is the worse one."""
    new, old = hits(40, first=20), hits(35)
    assert not bench.decide(new, old, min_photos=10)["promoted"]
    bench.champion_trained_on(range(COUNT // 2, COUNT // 2 + 20))
    decision = bench.decide(new, old, min_photos=10)
    assert decision["promoted"] and decision["comparison"]["photos"] == 40
    assert decision["comparison"]["accuracy"] == 1 and decision["comparison"]["champion_accuracy"] == 0.375
    assert decision["left_out"]["same_photos"] == 20 and decision["left_out"]["keys"][0] == "060.jpg"
    assert "left out: 20 test photos that champion version 1 was trained on (20 the same" in sentences(decision)[-1]


def test_too_few_photos_left_refuse_the_comparison(bench: Bench) -> None:
    bench.champion_trained_on(range(COUNT // 2, COUNT - 20))
    decision = bench.decide(hits(60), hits(0))
    assert not decision["promoted"] and decision["comparison"] is None
    assert decision["reason"] == (
        "20 test photos that champion version 1 was not trained on are too few to compare on (min_photos is 50)"
        + BY_HAND
    )
    bench.champion_trained_on(TRAIN)
    decision = bench.decide(hits(60), hits(0), min_photos=61)
    assert decision["reason"] == "60 test photos are too few to compare on (min_photos is 61)" + BY_HAND


def test_equal_models_are_promoted_no_oftener_than_the_level_says(bench: Bench) -> None:
    """The whole gate, with photos that are hard for both."""
    rng, promoted, trials = np.random.default_rng(0), 0, 150
    for _ in range(trials):
        ease = rng.beta(2, 0.7, 60)
        promoted += bench.decide(rng.random(60) < ease, rng.random(60) < ease)["promoted"]
    assert promoted / trials <= binom.ppf(0.999, trials, 0.05) / trials


def test_on_the_same_photos_the_champion_is_judged_by_its_logged_answers(photos: Path) -> None:
    add(photos, 1, hits(40))
    decision = add(photos, 2, hits(60))["decision"]
    assert decision["promoted"] and decision["comparison"]["champion_answers"] == "logged"
    assert decision["champion_test_accuracy"] == pytest.approx(40 / 60, abs=1e-6)
    assert decision["comparison"]["only_challenger_right"] == 20


@pytest.mark.parametrize("cause", ["other photos", "no predictions"])
def test_else_the_champion_is_asked_anew(photos: Path, cause: str) -> None:
    first = add(photos, 1, hits(40))
    test = range(50, COUNT) if cause == "other photos" else TEST
    if cause == "no predictions":
        (
            Path(MlflowClient().get_run(first["run_id"]).info.artifact_uri.removeprefix("file://")) / "predictions.csv"
        ).unlink()
    dataset = Dataset(photos / "dataset")
    answers = compute_predictions(photos / "models-1", dataset, test)
    right = np.mean([answer == dataset.labels[row] for answer, row in zip(answers, test, strict=True)])
    decision = add(photos, 2, hits(len(test), of=len(test)), test=test, train=range(50))["decision"]
    assert decision["promoted"] and decision["champion_test_accuracy"] == pytest.approx(right, abs=1e-6)
    assert decision["comparison"]["champion_answers"] == "evaluated anew"
    assert decision["left_out"]["same_photos"] == (10 if cause == "other photos" else 0)
    assert decision["comparison"]["photos"] == 60


def test_a_champion_of_other_classes_stays(photos: Path) -> None:
    add(photos, 1, hits(40), classes=["jay", "owl", "kite"])
    decision = add(photos, 2, hits(70, of=70), test=range(50, COUNT))["decision"]
    assert not decision["promoted"] and decision["comparison"] is None
    assert "it does not know 'wren' and also knows 'kite'" in decision["reason"]


def test_the_same_classes_in_another_order_are_compared_by_name(bench: Bench) -> None:
    straight = compute_predictions(make_model(bench.folder / "one", 5), bench.dataset, TEST)
    turned = bench.folder / "other"
    shutil.copytree(bench.folder / "one", turned)
    description = json.loads((turned / "model.json").read_text())
    assert description["classes"] == CLASSES
    (turned / "model.json").write_text(json.dumps(description | {"classes": ["owl", "wren", "jay"]}))
    names = dict(zip(CLASSES, ["owl", "wren", "jay"], strict=True))
    assert compute_predictions(turned, bench.dataset, TEST) == [names[answer] for answer in straight]
    (turned / "model.json").write_text(json.dumps(description | {"classes": ["owl", "wren", "tit"]}))
    with pytest.raises(ModelError, match="does not know 'jay' and also knows 'tit'"):
        compute_predictions(turned, bench.dataset, TEST)


@pytest.mark.parametrize("without", ["no file", "a broken file"])
def test_a_champion_whose_training_photos_are_not_known_is_compared_and_that_is_said(
    photos: Path, without: str
) -> None:
    first = add(photos, 1, hits(40), keep_photos=without == "no file")
    if without == "no file":  # as versions have none that were registered before there was such a file
        folder = Path(MlflowClient().get_run(first["run_id"]).info.artifact_uri.removeprefix("file://"))
        (folder / "training_photos.parquet").unlink()
    decision = add(photos, 2, hits(60))["decision"]
    assert decision["promoted"] and not decision["left_out"]["checked"]
    (line,) = [line for line in sentences(decision) if "trained on" in line]
    assert line.startswith("which photos champion version 1 was trained on is not known: ")
    assert "training_photos.parquet" in line and "\n" not in line


def test_a_champion_that_is_not_to_be_had_stays(bench: Bench) -> None:
    write_answers(bench.folder / "new.csv", bench.dataset, TEST, hits(60))
    get: Callable[[], NoReturn] = unavailable
    champion = Champion(1, False, get, get, get)
    challenger = Challenger(2, bench.folder / "models", {"test": {"accuracy": 1.0}}, bench.folder / "new.csv", None)
    decision = Gate(Register(), bench.dataset, TEST, None).decide(challenger, champion)
    assert not decision["promoted"]
    assert decision["reason"] == "champion version 1 can't be judged on these test photos: it is gone" + BY_HAND


def test_nothing_of_a_registered_model_is_run_to_judge_it(photos: Path) -> None:
    """Its code would leave a mark."""
    add(photos, 1, hits(40))
    mark = photos / "mark"
    for code in (photos / "mlartifacts").rglob("*.py"):
        code.write_text(f"open({str(mark)!r}, 'w')")
    assert add(photos, 2, hits(70, of=70), test=range(50, COUNT))["decision"]["comparison"]
    assert not mark.exists()
    assert MlflowClient().get_registered_model(NAME).aliases["champion"] in (2, "2")
