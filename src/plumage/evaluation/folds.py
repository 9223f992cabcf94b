"""Figures of cross-validation: `folds` in reports/metrics.json, and one line for people.

They judge the recipe, by models trained on K - 1 of K folds; `test` judges the model. The intervals take the predictions as
given: they leave out how much these vary with the training photos, of which no unbiased estimate exists (Bengio &
Grandvalet 2004). The figures per fold give an impression.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plumage.common.figures import share
from plumage.config import Evaluate
from plumage.evaluation.held_out import HeldOut
from plumage.evaluation.intervals import DECIMALS
from plumage.evaluation.sample import Sample
from plumage.evaluation.summary import summary

FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "loss")
FEW_TEST_PHOTOS = 100
"""With fewer, the 95% interval of an accuracy of 0.9 is wider than 0.12."""


def folds_summary(held_out: HeldOut, groups: NDArray[np.int64], settings: Evaluate) -> dict[str, Any]:
    """`folds` in reports/metrics.json: figures over all photos with their intervals, those per fold (`per_fold`), `k` and `n`.

    `groups` has one number per photo held out, the same for near-duplicates.
    """
    sample, folds = replace(held_out.sample, groups=groups), held_out.folds
    whole = summary(sample, resamples=settings.bootstrap, seed=settings.seed)
    figures = {key: value for key, value in whole.items() if key.removesuffix("_ci95") in FIGURES}
    per_fold = {str(number): _of_fold(sample, folds == number) for number in range(1, folds.max() + 1)}
    return {**figures, "k": int(folds.max()), "n": len(sample), "per_fold": per_fold}


def _of_fold(sample: Sample, chosen: NDArray[np.bool_]) -> dict[str, float]:
    """Accuracy, and macro F1 over the classes that have a photo in the fold."""
    from sklearn.metrics import f1_score  # late: importing it takes 0.8 s, which `describe_folds` doesn't need

    labels, predicted = sample.labels[chosen], sample.predicted[chosen]
    macro_f1 = f1_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0)
    accuracy = float((labels == predicted).mean())
    return {"accuracy": round(accuracy, DECIMALS), "macro_f1": round(float(macro_f1), DECIMALS), "n": len(labels)}


def describe_folds(metrics: Mapping[str, Any]) -> str:
    """Cross-validation in one line, from the content of reports/metrics.json; without it, advice if test is small, else ""."""
    test, folds = metrics["test"], metrics.get("folds")
    if folds:
        interval = folds["accuracy_ci95"]
        accuracy, low, high = (share(each, folds["n"]) for each in (folds["accuracy"], *interval.values()))
        return (
            f"{folds['k']} folds: accuracy {accuracy} (95%: {low} to {high}), {folds['n']:,} photos, each held out once"
        )
    if test["n"] < FEW_TEST_PHOTOS:
        return f"{test['n']:,} test photos decide little: `evaluate.folds: 5` judges the recipe on all photos"
    return ""
