"""Precision, recall and F1 of each class, with intervals."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_fscore_support

from plumage.evaluation.intervals import Interval, effective_trials, exact, f1_interval
from plumage.evaluation.sample import Floats, Sample


def class_scores(sample: Sample, classes: Sequence[str]) -> pd.DataFrame:
    """reports/per_class.csv: label, precision, recall, f1, support, then <score>_low and <score>_high of the three scores.

    One row per class, in class order. A score without any photo to tell is 0, its interval 0 to 1.
    """
    number = np.arange(len(classes))
    labels, predicted = sample.labels, sample.predicted
    scores = precision_recall_fscore_support(labels, predicted, labels=number, zero_division=0)
    precision, recall, f1, support = scores
    intervals = _intervals(sample, len(classes), precision, recall)
    columns = {
        "label": list(classes),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "support": support.astype(np.int64),
    }
    for name, (low, high) in intervals.items():
        columns |= {f"{name}_low": low, f"{name}_high": high}
    return pd.DataFrame(columns)


def _intervals(sample: Sample, num_classes: int, precision: Floats, recall: Floats) -> dict[str, Interval]:
    labels, predicted, groups, wrong = sample.labels, sample.predicted, sample.group_of, ~sample.correct
    of_label, of_predicted = (effective_trials(owner, groups, num_classes) for owner in (labels, predicted))
    # F1 depends on the photos of the class and those predicted as it, each once.
    involved = np.concatenate([labels, predicted[wrong]])
    trials = effective_trials(involved, np.concatenate([groups, groups[wrong]]), num_classes)
    true_positives = np.bincount(labels[~wrong], minlength=num_classes)
    share = true_positives / np.maximum(np.bincount(involved, minlength=num_classes), 1)
    return {
        "precision": exact(precision * of_predicted, of_predicted),
        "recall": exact(recall * of_label, of_label),
        "f1": f1_interval(share * trials, (1 - share) * trials),
    }
