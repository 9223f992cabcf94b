"""Precision, recall and F1 of each class, with intervals."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_fscore_support

from plumage.evaluation.intervals import f1_interval, wilson
from plumage.evaluation.sample import Sample


def class_scores(sample: Sample, classes: Sequence[str]) -> pd.DataFrame:
    """reports/per_class.csv: label, precision, recall, f1, support, then <score>_low and <score>_high of the three scores.

    One row per class, in class order. A score without any photo to tell is 0, its interval 0 to 1.
    """
    number = np.arange(len(classes))
    labels, predicted = sample.labels, sample.predicted
    scores = precision_recall_fscore_support(labels, predicted, labels=number, zero_division=0)
    precision, recall, f1, support = scores
    true_positives = np.bincount(sample.labels[sample.correct], minlength=len(classes))
    num_predicted = np.bincount(sample.predicted, minlength=len(classes))
    intervals = {
        "precision": wilson(true_positives, num_predicted),
        "recall": wilson(true_positives, support),
        "f1": f1_interval(true_positives, support + num_predicted - 2 * true_positives),
    }
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
