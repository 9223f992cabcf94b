"""The gate promotes a challenger only when the rule and the limits allow it, and its decision gives every reason."""

from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from registering import (
    CLASSES,
    COUNT,
    NAME,
    TEST,
    Bench,
    add,
    champion_of,
    hits,
    write_predictions,
)
from scipy.stats import binom

from plumage.common.class_names import ClassNames
from plumage.config import Register
from plumage.data.dataset.store import Dataset
from plumage.evaluation.compare import compare
from plumage.evaluation.predictions import compute_predictions
from plumage.registry.champion import Standing
from plumage.registry.decision import details
from plumage.registry.gate import Gate
from plumage.registry.head_to_head import BY_HAND, TestPhotos


def run_files(version: int) -> Path:
    """The folder with the files of a version's run."""
    run_id = MlflowClient().get_model_version(NAME, str(version)).run_id
    return Path(mlflow.artifacts.download_artifacts(run_id=run_id))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_superior_promotes_a_significant_difference_and_neither_a_tie_nor_noise(bench: Bench) -> None:
    tie = bench.decide(hits(40), hits(40, first=20))
    assert not tie["promoted"] and tie["comparison"]["difference"] == 0
    noise = bench.decide(hits(44), hits(40))
    assert not noise["promoted"] and noise["comparison"]["p_value"] == 0.0625
    assert noise["reason"] == (
        "73% against 67% of champion version 1 on 60 photos: not shown to be better (McNemar p = 0.062, over 0.05); "
        "at this rate about 91 test photos would show it"
    )
    better = bench.decide(hits(46), hits(40))
    assert better["promoted"] and better["comparison"]["p_value"] == pytest.approx(1 / 64)
    assert "better (McNemar p = 0.016, at most 0.05)" in better["reason"]
    assert not bench.decide(hits(46), hits(40), alpha=0.01)["promoted"]


def test_the_decision_holds_all_figures_behind_it(bench: Bench) -> None:
    decision = bench.decide(hits(46), hits(30, first=20))
    comparison = decision["comparison"]
    assert (decision["test_accuracy"], decision["champion_test_accuracy"]) == pytest.approx((46 / 60, 0.5))
    assert (comparison["only_challenger_right"], comparison["only_champion_right"]) == (20, 4)
    assert comparison["difference"] == pytest.approx(16 / 60, abs=1e-6)
    assert comparison["p_value"] == pytest.approx(binom.sf(19, 24, 0.5), rel=1e-5)
    for interval in ("score_interval", "bootstrap_interval"):
        assert 0 < comparison[interval]["low"] < 16 / 60 < comparison[interval]["high"] < 1
    assert decision["rule"] == {"name": "superior", "alpha": 0.05}
    assert decision["left_out"] == {"checked": True, "same_photos": 0, "near_duplicates": 0, "keys": [], "repeats": 0}
    (line,) = details(decision)
    assert (
        "difference +26.7 points (90%: +1" in line
        and "20 only this one gets right, 4 only the champion (logged)" in line
    )


def test_not_inferior_promotes_an_equal_model_only_when_the_margin_is_wide_enough(bench: Bench) -> None:
    wide = bench.decide(hits(40), hits(40), gate="not_inferior", margin=0.1)
    assert wide["promoted"] and wide["rule"]["margin"] == 0.1 and "not worse by 10 points (" in wide["reason"]
    narrow = bench.decide(hits(40), hits(40), gate="not_inferior", margin=0.01)
    assert (
        not narrow["promoted"]
        and "may be worse by 1 point (the difference is at least -4.3 points)" in narrow["reason"]
    )
    worse = bench.decide(hits(30), hits(40), gate="not_inferior", margin=0.1)
    assert not worse["promoted"]


def test_photos_that_the_champion_was_trained_on_are_left_out_of_the_comparison(bench: Bench) -> None:
    """It has memorised them; on the others it is worse."""
    new, old = hits(40, first=20), hits(35)
    assert not bench.decide(new, old)["promoted"]
    bench.champion_trained_on(range(COUNT // 2, COUNT // 2 + 20))
    decision = bench.decide(new, old)
    assert decision["promoted"] and decision["comparison"]["photos"] == 40
    assert decision["comparison"]["accuracy"] == 1 and decision["comparison"]["champion_accuracy"] == 0.375
    assert decision["left_out"]["same_photos"] == 20 and decision["left_out"]["keys"][0] == "060.jpg"
    assert "left out: 20 test photos that champion version 1 was trained on (20 the same" in details(decision)[-1]


def test_near_duplicates_among_the_test_photos_count_once(bench: Bench) -> None:
    """Six photos that only the challenger gets right would show it to be better; as one photo and five copies they don't."""
    thumbnails = bench.dataset.bytes_column("thumbnail").copy()
    thumbnails[list(TEST)[40:46]] = np.random.default_rng(0).integers(0, 255, thumbnails.shape[1])
    bench.dataset.bytes_column = {"thumbnail": thumbnails, "sha256": bench.dataset.bytes_column("sha256")}.__getitem__
    decision = bench.decide(hits(46), hits(40))
    comparison = decision["comparison"]
    assert not decision["promoted"] and decision["left_out"]["repeats"] == 5
    assert (comparison["photos"], comparison["only_challenger_right"], comparison["p_value"]) == (55, 1, 0.5)
    assert "left out: 5 near-duplicates of other test photos; one photo per group counts" in details(decision)


@pytest.mark.parametrize("copies", [1, 5])
def test_equal_models_are_promoted_at_most_at_the_rate_alpha_with_near_duplicates(copies: int) -> None:
    """Both models answer all copies of a photo alike. Counted one by one they would pass far too often."""
    rng, trials, found, naive = np.random.default_rng(0), 400, 0, 0
    labels = np.zeros(60 * copies, dtype=object)
    photos = TestPhotos(None, range(len(labels)), None, ClassNames({}))  # type: ignore[arg-type]
    object.__setattr__(photos, "groups", np.repeat(np.arange(60), copies))
    one = photos.one_per_group(np.ones(len(labels), bool))
    for _ in range(trials):
        mine, theirs = (np.repeat(rng.random(60) < 0.7, copies) for _ in range(2))
        found += compare(mine[one], theirs[one], 0.05).p_value <= 0.05
        naive += compare(mine, theirs, 0.05).p_value <= 0.05
    assert found <= binom.ppf(0.999, trials, 0.05)
    assert naive == found if copies == 1 else naive > 2 * 0.05 * trials


def test_any_number_of_test_photos_is_compared_and_none_left_keeps_the_champion(bench: Bench) -> None:
    bench.champion_trained_on(range(COUNT // 2, COUNT - 6))
    assert bench.decide(hits(60), hits(0))["promoted"]
    bench.champion_trained_on(range(COUNT // 2, COUNT - 4))
    decision = bench.decide(hits(60), hits(0))
    assert not decision["promoted"] and decision["comparison"]["photos"] == 4
    assert decision["reason"].endswith(
        "these photos can't show it: that takes 5 which only the challenger gets right, and the champion is wrong on 4 of 4"
    )
    bench.champion_trained_on(TEST)
    decision = bench.decide(hits(60), hits(0))
    assert not decision["promoted"] and decision["comparison"] is None
    assert decision["reason"] == "champion version 1 was trained on all test photos" + BY_HAND


def test_what_the_photos_can_t_tell_is_said(bench: Bench) -> None:
    def reason(new: int, old: int, **settings: object) -> str:
        return bench.decide(hits(new), hits(old), **settings)["reason"]

    assert "that takes 5 which only the challenger gets right, and the champion is wrong on 2 of 60" in reason(60, 58)
    assert reason(44, 40).endswith("; at this rate about 91 test photos would show it")
    assert reason(40, 40).endswith("(McNemar p = 1, over 0.05)")
    assert reason(40, 40, gate="not_inferior").endswith(
        "; 60 photos can't show less than 4.31 points, 1 point takes 268 or more"
    )
    assert reason(38, 40, gate="not_inferior", margin=0.05).endswith(")")


def test_equal_models_are_promoted_at_most_at_the_rate_alpha(bench: Bench) -> None:
    """Runs the whole gate, on photos whose difficulty both models share."""
    rng, promoted, trials = np.random.default_rng(0), 0, 150
    for _ in range(trials):
        ease = rng.beta(2, 0.7, 60)
        promoted += bench.decide(rng.random(60) < ease, rng.random(60) < ease)["promoted"]
    assert promoted / trials <= binom.ppf(0.999, trials, 0.05) / trials


def test_on_the_same_photos_the_champion_s_logged_predictions_are_used(registered: Path) -> None:
    decision = add(registered, 2, hits(60))["decision"]
    assert decision["promoted"] and decision["comparison"]["champion_answers"] == "logged"
    assert decision["champion_test_accuracy"] == pytest.approx(40 / 60, abs=1e-6)
    assert decision["comparison"]["only_challenger_right"] == 20


@pytest.mark.parametrize("cause", ["other photos", "no predictions"])
def test_otherwise_the_champion_predicts_again(registered: Path, cause: str) -> None:
    test = range(50, COUNT) if cause == "other photos" else TEST
    if cause == "no predictions":
        (run_files(1) / "predictions.csv").unlink()
    dataset = Dataset(registered / "dataset")
    answers = compute_predictions(registered / "models-1", dataset, test, CLASSES)
    right = np.mean([answer == dataset.labels[row] for answer, row in zip(answers, test, strict=True)])
    decision = add(registered, 2, hits(len(test), of=len(test)), test=test, train=range(50))["decision"]
    assert decision["promoted"] and decision["champion_test_accuracy"] == pytest.approx(right, abs=1e-6)
    assert decision["comparison"]["champion_answers"] == "evaluated anew"
    assert decision["left_out"]["same_photos"] == (10 if cause == "other photos" else 0)
    assert decision["comparison"]["photos"] == 60


@pytest.mark.parametrize("without", ["no file", "a broken file"])
def test_a_champion_with_unknown_training_photos_is_compared_and_the_decision_says_so(
    photos: Path, without: str
) -> None:
    add(photos, 1, hits(40), keep_photos=without == "no file")
    if without == "no file":  # as for versions registered before the file was introduced
        (run_files(1) / "training_photos.parquet").unlink()
    decision = add(photos, 2, hits(60))["decision"]
    assert decision["promoted"] and not decision["left_out"]["checked"]
    (line,) = [line for line in details(decision) if "trained on" in line]
    assert line.startswith("which photos champion version 1 was trained on is not known: ")
    assert "training_photos.parquet" in line and "\n" not in line


def test_a_champion_whose_files_are_gone_stays(bench: Bench) -> None:
    write_predictions(bench.folder / "new.csv", bench.dataset, TEST, hits(60))
    challenger = bench.candidate({"test": {"accuracy": 1.0}})
    gate = Gate(Register(), TestPhotos(bench.dataset, TEST, None, ClassNames({})))
    decision = gate.decide(challenger, 2, Standing(champion_of(), None, None, None))
    assert not decision["promoted"]
    assert decision["reason"] == "champion version 1 can't be judged on these test photos: it is gone" + BY_HAND


def test_no_code_of_a_registered_model_runs_when_it_is_compared(registered: Path) -> None:
    """Its code would write a file."""
    mark = registered / "mark"
    for code in (registered / "mlartifacts").rglob("*.py"):
        code.write_text(f"open({str(mark)!r}, 'w')")
    assert add(registered, 2, hits(70, of=70), test=range(50, COUNT))["decision"]["comparison"]
    assert not mark.exists()
    assert MlflowClient().get_registered_model(NAME).aliases["champion"] in (2, "2")
