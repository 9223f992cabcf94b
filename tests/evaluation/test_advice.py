"""What to try next follows from the figures: advice is given when they support it, and only then."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from report_pages import make_result

from plumage.evaluation.advice import SURE_GAIN, advise, beyond_chance, cannot_tell, hard_classes
from plumage.evaluation.result import EvaluationResult, LabelError
from plumage.evaluation.sample import Sample
from plumage.evaluation.slices import Slice, slice_table

CLASSES = [f"Bird {number}" for number in range(10)]
NO_SLICES = slice_table([])


def predicted(photos_per_class: int, errors: dict[tuple[int, int], int]) -> Sample:
    """Certain predictions, all correct but `errors`: photos by (actual, predicted) class."""
    labels = np.repeat(np.arange(len(CLASSES)), photos_per_class)
    taken_for = labels.copy()
    for (actual, other), photos in errors.items():
        taken_for[np.flatnonzero((labels == actual) & (taken_for == actual))[:photos]] = other
    return Sample(labels, np.eye(len(CLASSES), dtype=np.float32)[taken_for])


def result_of(sample: Sample, **changes: Any) -> EvaluationResult:
    return make_result(sample, CLASSES, resamples=10, **{"slices": NO_SLICES, **changes})


def titles(result: EvaluationResult) -> list[str]:
    return [advice.title for advice in advise(result)]


def test_more_photos_of_two_classes_confused_beyond_chance_with_the_figures() -> None:
    counts = np.full(10, 40)
    counts[3] = 25
    result = result_of(predicted(20, {(3, 4): 6, (4, 3): 2, (0, 7): 1}), train_counts=counts)
    assert beyond_chance(result) == [(3, 4)]
    (found,) = (advice for advice in advise(result) if "tell apart" in advice.title)
    assert found.title == "More photos that tell apart Bird 3 and Bird 4"
    assert "8 of the 8 mistakes on Bird 3 and Bird 4 are between the two, 0.9 by chance" in found.figures
    assert "25 and 40 training photos" in found.figures


def test_more_photos_of_a_hard_class_with_few_and_a_look_at_one_with_many() -> None:
    spread = {(2, other): 2 for other in (0, 1, 3, 4, 5, 6)} | {(8, other): 2 for other in (0, 1, 3, 4, 5, 6)}
    counts = np.full(10, 40)
    counts[[2, 8]] = 9, 90
    result = result_of(predicted(20, spread), train_counts=counts)
    assert sorted(hard_classes(result)) == [2, 8]
    advice = {each.title: each.figures for each in advise(result)}
    assert (
        "Bird 2: 8 of 20 test photos right, 9 training photos. The median class has 40."
        in advice["More photos of Bird 2"]
    )
    assert "90 training photos" in advice["Look at the photos of Bird 8"]


def test_errors_that_chance_explains_name_no_class_and_no_pair() -> None:
    rng, named = np.random.default_rng(0), 0
    for _ in range(40):
        labels = rng.integers(0, 10, 100)
        wrong = rng.random(100) < 0.2
        others = (labels + rng.integers(1, 10, 100)) % 10
        result = result_of(Sample(labels, np.eye(10, dtype=np.float32)[np.where(wrong, others, labels)]))
        named += bool(len(hard_classes(result))) or bool(beyond_chance(result))
        assert len(cannot_tell(result)) == 2 or named
    assert named <= 8, "about a tenth for each of the two tests"


def test_few_photos_say_how_many_more_decide_and_what_they_cannot_tell() -> None:
    perfect = result_of(predicted(2, {}))
    assert titles(perfect) == ["16 more test photos to decide"]
    assert "between 83% and 100%" in advise(perfect)[0].figures
    assert "nothing says what is hard" in cannot_tell(perfect)[0]
    plenty = result_of(predicted(500, {(1, 2): 5}))
    assert "test photos to decide" not in " ".join(titles(plenty))


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (
            {"train.recipe": "scratch", "model.weights": None, "model.name": "efficientnet_b0"},
            "Start from ImageNet's weights",
        ),
        ({"train.recipe": "scratch", "model.weights": None, "data.source": "sample"}, None),
        ({"train.recipe": "scratch", "model.weights": "birds.pth"}, None),
        ({"train.recipe": "probe", "model.weights": "imagenet"}, "Fine-tune the network"),
        ({"train.recipe": "finetune", "model.weights": "imagenet"}, None),
    ],
)
def test_the_recipe_that_suits(params: dict[str, Any], expected: str | None) -> None:
    suits = {"Start from ImageNet's weights", "Fine-tune the network"}
    some_wrong = result_of(predicted(20, {(1, 2): 1}), params=params, train_counts=np.full(10, 30))
    assert set(titles(some_wrong)) & suits == ({expected} if expected else set())
    all_right = result_of(predicted(20, {}), params=params, train_counts=np.full(10, 30))
    assert not set(titles(all_right)) & suits


def history(accuracies: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"epoch": range(1, len(accuracies) + 1), "val/accuracy": accuracies})


@pytest.mark.parametrize(
    ("accuracies", "longer"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], True),
        ([0.1, 0.5, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8 + (SURE_GAIN - 1) / 100], False),  # so few more may be chance
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 0.7], False),  # the best epoch isn't the last
    ],
)
def test_train_longer_if_the_best_epoch_is_the_last_by_more_than_chance(accuracies: list[float], longer: bool) -> None:
    params = {"train.recipe": "scratch", "model.weights": "birds.pth"}
    result = result_of(predicted(5, {}), history=history(accuracies), params=params, split_sizes={"val": 100})
    found = [advice for advice in advise(result) if advice.title == "Train longer, 16 epochs"]
    assert bool(found) == longer
    if found:
        assert "20 more of 100 val photos are right than after epoch 6" in found[0].figures
        assert found[0].command == "dvc exp run -S train.epochs=16"


@pytest.mark.parametrize(("size", "side", "title"), [
    (96, 480, "A larger input, 128 pixels"),
    (224, 200, "More training photos with sharpness 0.1 to 0.4"),
])  # fmt: skip
def test_blurred_photos_ask_for_a_larger_input_only_if_the_photos_have_the_pixels(
    size: int, side: int, title: str
) -> None:
    slices = slice_table(
        [Slice("sharpness", 0.1, 0.4, 20, 40, 110, 120, 0.001), Slice("sharpness", 0.5, 2.0, 40, 40, 90, 120, 1.0)]
    )
    result = result_of(predicted(16, {}), slices=slices, model={"size": size}, typical_side=side)
    assert titles(result)[0] == title
    assert "50% on the 40 test photos with sharpness 0.1 to 0.4" in advise(result)[0].figures


def test_suspicious_labels_come_first(make_sample: Callable[..., Sample]) -> None:
    assert (
        titles(result_of(predicted(20, {}), label_errors=[LabelError("a.jpg", "Bird 1", "Bird 2", 0.9)]))[0]
        == "Check 1 label"
    )
