"""The 95% interval of each metric that has one, from a sample: (low, high)."""

import numpy as np
from numpy.typing import NDArray

from plumage.evaluation.intervals import mean_interval, share_interval, weighted_interval
from plumage.evaluation.sample import Sample


def accuracy_interval(sample: Sample) -> tuple[float, float]:
    """Of the accuracy."""
    return share_interval(sample.correct, sample.group_of)


def top5_interval(sample: Sample) -> tuple[float, float]:
    """Of the top-5 accuracy, which is certainly 1 with 5 classes or fewer."""
    if sample.num_classes <= 5:
        return 1.0, 1.0
    return share_interval(sample.in_top5, sample.group_of)


def balanced_accuracy_interval(sample: Sample) -> tuple[float, float]:
    """Of the balanced accuracy: a share of photos whose weights sum to the same in each class."""
    weights = _class_weights(sample)
    score = float((weights * sample.correct).sum())
    return weighted_interval(score, weights * (sample.correct - score), weights, sample.group_of)


def macro_f1_interval(sample: Sample) -> tuple[float, float]:
    """Of the macro F1.

    With few photos per class a macro F1 is too low on average, as F1 is a ratio. To second order, with `support` fixed (as a stratified
    split does), a class's F1 is off by (F1 (var TP + var FP) - 2 var TP) / (support + num_predicted)^2. The interval
    lies around the score without that, and is wider by as much.
    """
    labels, predicted, correct = sample.labels, sample.predicted, sample.correct
    support, num_predicted, true_positives = _counts(sample)
    size = np.maximum(support + num_predicted, 1)
    f1 = 2 * true_positives / size
    influence = (2 * correct / size[labels] - f1[labels] / size[labels] - f1[predicted] / size[predicted]) / len(f1)
    accuracy = correct.mean()
    variance = support * accuracy * (1 - accuracy)
    bias = float(((f1 * (variance + num_predicted - true_positives) - 2 * variance) / size**2).mean())
    score = float(f1.mean())
    unbiased = min(max(score - bias, 0.0), 1.0)
    # `bias` as one more independent term of the variance, in a group of its own.
    influence, groups = np.append(influence, bias), np.append(sample.group_of, sample.group_of.max() + 1)
    low, high = weighted_interval(unbiased, influence, np.append(_class_weights(sample), 0), groups)
    return min(low, score), max(high, score)


def log_loss_interval(sample: Sample, *, resamples: int, seed: int) -> tuple[float, float]:
    """Of the log loss. The unseen photo's is the highest loss of any photo, or of any that would belong to the runner-up class."""
    worst = float(max(sample.losses.max(), sample.runner_up_losses.max()))
    return mean_interval(sample.losses, sample.group_of, worst, resamples=resamples, seed=seed)


def _class_weights(sample: Sample) -> NDArray[np.float64]:
    """N weights that sum to 1, and to the same in each class that has photos."""
    support = np.bincount(sample.labels)
    return 1 / (support[sample.labels] * np.count_nonzero(support))


def _counts(sample: Sample) -> tuple[NDArray[np.int64], ...]:
    """C counts each: photos per label, photos per predicted class, correct photos per class."""
    counted = (sample.labels, sample.predicted, sample.labels[sample.correct])
    return tuple(np.bincount(classes, minlength=sample.num_classes) for classes in counted)
